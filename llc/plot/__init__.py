"""Figures, from result objects only."""

from llc.plot.figures import save
from llc.plot.scale import scale_curve
from llc.plot.sweep import sweep
from llc.plot.trajectory import trajectory
from llc.plot.validation import validation

__all__ = ["save", "scale_curve", "sweep", "trajectory", "validation"]
