"""Local learning coefficients of checkpoints, with error bars and verdicts.

>>> import torch, llc
>>> model = torch.nn.Linear(2, 1, bias=False)
>>> _ = torch.nn.init.zeros_(model.weight)
>>> task = llc.Task(model, potential=lambda m: (m.weight**2).sum())
>>> estimate = llc.estimate(task, n_beta=1000.0, gamma=1.0)
>>> 0.9 < estimate.llc < 1.1  # a regular model of two parameters: d/2 = 1
True
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from llc import interop, plot, symmetry, truths
    from llc.audit import StepAudit, audit_step
    from llc.calibration import calibrate
    from llc.checkpoints import load_weights
    from llc.companions import bracket, curvature
    from llc.errors import InputError
    from llc.estimation import Curvature, Estimate, Reason, Verdict
    from llc.estimator import estimate
    from llc.execution import Execution
    from llc.fluctuation import Fluctuation, singular_fluctuation
    from llc.maps import ScaleMap, scale_map
    from llc.planting import Variant, interpolants, plant, relabel, splice
    from llc.refined import DataRefined, Refined, data_refined, refine
    from llc.report import write_report
    from llc.scale import ScaleCurve, scale_curve
    from llc.settings import Settings
    from llc.sweeps import Sweep, sweep
    from llc.task import Task
    from llc.trajectory import Trajectory, trace
    from llc.trajectory.basins import Barrier, Basins, Similarity, barrier, basins, similarity
    from llc.trajectory.circuits import Circuits, circuits
    from llc.trajectory.symmetries import (
        Directions,
        Invariance,
        SymmetryCheck,
        check_symmetries,
        count_directions,
    )
    from llc.transitions import Transition, Transitions, find_transitions
    from llc.validation import Validation, validate

# Loaded on first use: torch takes seconds to import, and `rlct --help` needs none of it.
_HOMES = {
    "Barrier": "llc.trajectory.basins",
    "Basins": "llc.trajectory.basins",
    "Circuits": "llc.trajectory.circuits",
    "Curvature": "llc.estimation",
    "DataRefined": "llc.refined",
    "Directions": "llc.trajectory.symmetries",
    "Estimate": "llc.estimation",
    "Execution": "llc.execution",
    "Fluctuation": "llc.fluctuation",
    "InputError": "llc.errors",
    "Invariance": "llc.trajectory.symmetries",
    "Reason": "llc.estimation",
    "Refined": "llc.refined",
    "ScaleCurve": "llc.scale",
    "ScaleMap": "llc.maps",
    "Settings": "llc.settings",
    "StepAudit": "llc.audit",
    "Sweep": "llc.sweeps",
    "Similarity": "llc.trajectory.basins",
    "SymmetryCheck": "llc.trajectory.symmetries",
    "Task": "llc.task",
    "Trajectory": "llc.trajectory",
    "Transition": "llc.transitions",
    "Transitions": "llc.transitions",
    "Validation": "llc.validation",
    "Variant": "llc.planting",
    "Verdict": "llc.estimation",
    "audit_step": "llc.audit",
    "barrier": "llc.trajectory.basins",
    "basins": "llc.trajectory.basins",
    "bracket": "llc.companions",
    "calibrate": "llc.calibration",
    "check_symmetries": "llc.trajectory.symmetries",
    "circuits": "llc.trajectory.circuits",
    "count_directions": "llc.trajectory.symmetries",
    "curvature": "llc.companions",
    "data_refined": "llc.refined",
    "estimate": "llc.estimator",
    "find_transitions": "llc.transitions",
    "interpolants": "llc.planting",
    "load_weights": "llc.checkpoints",
    "plant": "llc.planting",
    "refine": "llc.refined",
    "relabel": "llc.planting",
    "scale_curve": "llc.scale",
    "scale_map": "llc.maps",
    "similarity": "llc.trajectory.basins",
    "singular_fluctuation": "llc.fluctuation",
    "splice": "llc.planting",
    "sweep": "llc.sweeps",
    "trace": "llc.trajectory",
    "validate": "llc.validation",
    "write_report": "llc.report",
}
__all__ = [
    "Barrier",
    "Basins",
    "Circuits",
    "Curvature",
    "DataRefined",
    "Directions",
    "Estimate",
    "Execution",
    "Fluctuation",
    "InputError",
    "Invariance",
    "Reason",
    "Refined",
    "ScaleCurve",
    "ScaleMap",
    "Settings",
    "Similarity",
    "StepAudit",
    "Sweep",
    "SymmetryCheck",
    "Task",
    "Trajectory",
    "Transition",
    "Transitions",
    "Validation",
    "Variant",
    "Verdict",
    "audit_step",
    "barrier",
    "basins",
    "bracket",
    "calibrate",
    "check_symmetries",
    "circuits",
    "count_directions",
    "curvature",
    "data_refined",
    "estimate",
    "find_transitions",
    "interop",
    "interpolants",
    "load_weights",
    "plant",
    "plot",
    "refine",
    "relabel",
    "scale_curve",
    "scale_map",
    "similarity",
    "singular_fluctuation",
    "splice",
    "sweep",
    "symmetry",
    "trace",
    "truths",
    "validate",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in ("interop", "plot", "symmetry", "truths"):
        return importlib.import_module(f"llc.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'llc' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
