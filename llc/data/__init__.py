"""Every kind of data a user holds, turned into tensors that stay on the device."""

from llc.data.looks import padded, repeated, unsuited
from llc.data.materialise import materialise, number_of_examples, take

__all__ = ["materialise", "number_of_examples", "padded", "repeated", "take", "unsuited"]
