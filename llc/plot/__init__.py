"""Figures, from result objects only."""

from llc.plot.figures import save
from llc.plot.trajectory import trajectory

__all__ = ["save", "trajectory"]
