"""Checkpoints made from checkpoints: exceptions planted, weights mixed, tensors spliced."""

from llc.planting.finetune import plant
from llc.planting.mixtures import interpolants, splice
from llc.planting.relabelled import exceptions, relabel
from llc.planting.variant import Variant

__all__ = ["Variant", "exceptions", "interpolants", "plant", "relabel", "splice"]
