"""Refined LLCs: of parts of a network over training, and of one data set under another."""

from llc.refined.elsewhere import DataRefined, data_refined
from llc.refined.refine import refine
from llc.refined.result import Refined

__all__ = ["DataRefined", "Refined", "data_refined", "refine"]
