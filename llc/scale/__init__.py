"""The scale curve: effective dimension against γ, from one annealed run."""

from llc.scale.anneal import scale_curve
from llc.scale.curve import Plateau, ScaleCurve

__all__ = ["Plateau", "ScaleCurve", "scale_curve"]
