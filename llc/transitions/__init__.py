"""Abrupt changes of the LLC over training, held against a smooth curve and a constant."""

from llc.transitions.find import find_in_curve, find_transitions
from llc.transitions.result import Plateau, Stage, Transition, Transitions
from llc.transitions.stages import Stages, find_stages

__all__ = [
    "Plateau",
    "Stage",
    "Stages",
    "Transition",
    "Transitions",
    "find_in_curve",
    "find_stages",
    "find_transitions",
]
