"""The loss in double precision, where the model runs in it."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from llc.errors import InputError
from llc.execution import Execution
from llc.objective import Objective
from llc.private import private_copy
from llc.task import Task

__all__ = ["precise_objective"]


def precise_objective(
    task: Task, behavioural: bool, execution: Execution, only: Sequence[str] | None = None
) -> tuple[Objective, torch.dtype]:
    """Return the loss in double precision where the model runs in it; and the weights' own dtype.

    Rounding of float32 products would pass for small eigenvalues in every flat direction.
    """
    given = [p.dtype for p in task.model.parameters() if p.requires_grad]
    own = min(given, key=lambda dtype: dtype.itemsize, default=torch.float32)
    device = execution.device or next(iter(task.model.parameters()), torch.empty(0)).device
    wide = _in_double(task, behavioural, device, only)
    if wide is not None:
        return wide, own
    objective = Objective(task, behavioural=behavioural, device=execution.device, only=only)
    if objective.is_half:
        raise InputError(
            f"the weights are {own} and the model does not run in float64: write model.float()"
        )
    return objective, own


def _in_double(
    task: Task, behavioural: bool, device: torch.device | str, only: Sequence[str] | None
) -> Objective | None:
    def widen(leaf: Tensor) -> Tensor:
        return leaf.double() if leaf.is_floating_point() else leaf

    try:
        data = None if task.data is None else tree_map(widen, task.data)
        wide = replace(task, model=private_copy(task.model).double(), data=data)
        return Objective(wide, behavioural=behavioural, device=device, only=only)
    except (
        Exception
    ):  # constants in float32, a device without doubles, or an error said again below
        return None
