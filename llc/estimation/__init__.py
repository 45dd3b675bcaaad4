"""Draws in, an LLC with its error bar, sensitivities and verdict out."""

from llc.estimation.curvature import Curvature
from llc.estimation.estimate import Estimate
from llc.estimation.verdict import Reason, Verdict

__all__ = ["Curvature", "Estimate", "Reason", "Verdict"]
