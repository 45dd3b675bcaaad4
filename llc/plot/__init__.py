"""Figures, from result objects only."""

from llc.plot.against import against
from llc.plot.basins import barriers, basins
from llc.plot.chains import autocorrelation, chains, ranks, traces
from llc.plot.circuits import circuits
from llc.plot.figures import save
from llc.plot.portraits import dimension, portrait, runs
from llc.plot.refined import refined
from llc.plot.scale import scale_curve, scale_map
from llc.plot.stages import stages
from llc.plot.steps import step_size
from llc.plot.sweep import sweep
from llc.plot.trajectory import trajectory
from llc.plot.validation import validation

__all__ = [
    "against",
    "autocorrelation",
    "barriers",
    "basins",
    "chains",
    "circuits",
    "dimension",
    "portrait",
    "ranks",
    "refined",
    "runs",
    "save",
    "scale_curve",
    "scale_map",
    "stages",
    "step_size",
    "sweep",
    "traces",
    "trajectory",
    "validation",
]
