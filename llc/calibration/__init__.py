"""Settings nobody gave, chosen from the model and its data by rules that fit on a page."""

from llc.calibration.choices import (
    Choice,
    Resolved,
    choose,
    fill,
    first_gamma,
    resolve,
    resolve_task,
)
from llc.calibration.freezing import calibrate, freeze_task
from llc.calibration.pilots import PATIENCE, Pilot, pilot_at

__all__ = [
    "PATIENCE",
    "Choice",
    "Pilot",
    "Resolved",
    "calibrate",
    "choose",
    "fill",
    "first_gamma",
    "freeze_task",
    "pilot_at",
    "resolve",
    "resolve_task",
]
