"""The scale curve: effective dimension against γ, from one annealed run."""

from llc.scale.anneal import default_gammas, scale_curve
from llc.scale.curve import Plateau, ScaleCurve

__all__ = ["Plateau", "ScaleCurve", "default_gammas", "scale_curve"]
