"""Figures, from result objects only."""

from llc.plot.figures import save
from llc.plot.sweep import sweep
from llc.plot.trajectory import trajectory
from llc.plot.validation import validation

__all__ = ["save", "sweep", "trajectory", "validation"]
