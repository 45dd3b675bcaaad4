"""The order of training: which step each checkpoint of a run is."""

from llc.ordering.order import Ordering

__all__ = ["Ordering"]
