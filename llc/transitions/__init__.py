"""Abrupt changes of the LLC over training, held against a smooth curve and a constant."""

from llc.transitions.find import find_in_curve, find_transitions
from llc.transitions.result import Plateau, Stage, Transition, Transitions

__all__ = ["Plateau", "Stage", "Transition", "Transitions", "find_in_curve", "find_transitions"]
