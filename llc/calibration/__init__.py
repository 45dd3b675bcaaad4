"""Settings nobody gave, chosen from the model and its data by rules that fit on a page."""

from llc.calibration.choices import Resolved, choose, fill, first_gamma, resolve, resolve_task
from llc.calibration.freezing import calibrate, freeze_task

__all__ = [
    "Resolved",
    "calibrate",
    "choose",
    "fill",
    "first_gamma",
    "freeze_task",
    "resolve",
    "resolve_task",
]
