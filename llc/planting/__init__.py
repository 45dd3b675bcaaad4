"""Checkpoints made from checkpoints: exceptions planted, weights mixed, tensors spliced."""

from llc.planting.finetune import plant
from llc.planting.matching import of_entropy, of_norm, output_entropy, weight_norm
from llc.planting.mixtures import interpolants, splice
from llc.planting.relabelled import exceptions, relabel
from llc.planting.variant import Variant

__all__ = [
    "Variant",
    "exceptions",
    "interpolants",
    "of_entropy",
    "of_norm",
    "output_entropy",
    "plant",
    "relabel",
    "splice",
    "weight_norm",
]
