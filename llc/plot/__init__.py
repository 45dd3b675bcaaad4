"""Figures, from result objects only."""

from llc.plot.figures import save
from llc.plot.trajectory import trajectory
from llc.plot.validation import validation

__all__ = ["save", "trajectory", "validation"]
