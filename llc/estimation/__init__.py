"""Draws in, an LLC with its error bar, sensitivities and verdict out."""

from llc.estimation.estimate import Estimate
from llc.estimation.verdict import Reason, Verdict

__all__ = ["Estimate", "Reason", "Verdict"]
