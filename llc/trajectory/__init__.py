"""Estimates over the checkpoints of a training run."""

from llc.trajectory.trace import trace
from llc.trajectory.trajectory import Point, Trajectory

__all__ = ["Point", "Trajectory", "trace"]
