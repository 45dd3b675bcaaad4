"""Numbers beside the LLC of a checkpoint: losses and accuracies, weight norm, N_eff."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llc import losses
from llc.companions import curvature
from llc.data import number_of_examples, take
from llc.errors import InputError, brief
from llc.isolation import undisturbed
from llc.private import private_copy
from llc.reweighted import without_graph
from llc.settings import Settings
from llc.task import Task
from llc.trajectory.columns import OURS, kept_apart

__all__ = ["measure_readings"]

CHUNK = 4096


def measure_readings(
    task: Task,
    settings: Settings,
    known: Mapping[str, float],
    *,
    n_eff: bool = False,
    device: torch.device | str | None = None,
) -> dict[str, float]:
    """Measure a checkpoint's readings, by name, beside the numbers saved with it.

    ``NAME_loss`` and, with cross-entropy, ``NAME_accuracy`` for every data set among
    ``task.readings``, and ``NAME`` for every function among them. ``train_loss``,
    ``train_accuracy`` (the task's own data) and ``weight_norm`` only where nothing of that name
    was saved. With ``n_eff`` also ``n_eff`` = Σ h_i/(h_i + γ/nβ) of `llc.curvature`, and
    ``n_eff_se``. The model is copied and put in evaluation mode.

    Args:
        task: at the checkpoint's weights.
        settings: nβ, γ, seed and whether the loss is behavioural, for N_eff.
        known: numbers saved with the checkpoint.
        n_eff: measure the curvature, which takes some hundred passes over the data.
        device: where to compute; None keeps the model's own.

    Returns:
        ``known``, with the readings; names of ours have ``saved_`` before them there.

    Raises:
        InputError: a reading fails, or returns no number.
    """
    found = kept_apart(known, OURS | {"n_eff", "n_eff_se"} if n_eff else OURS)
    with undisturbed(), torch.no_grad():
        model = private_copy(task.model).eval()
        if device is not None:
            model = model.to(device)
        sets: dict[str, Any] = dict(task.readings or {})
        own = {} if task.loss is None else {"train": task.data}
        for name, values in own.items():
            if f"{name}_loss" not in found and name not in sets:
                # Nobody asked for it: what is wrong is for the estimate to say.
                with suppress(InputError):
                    found |= _on_data(name, model, values, task.loss, saved=found)
        for name, what in sets.items():
            if callable(what):
                found[name] = _by_function(name, what, model)
            else:
                found |= _on_data(name, model, what, task.loss)
        if "weight_norm" not in found:
            squares = sum(p.double().square().sum().item() for p in model.parameters())
            found["weight_norm"] = math.sqrt(squares)
    if n_eff:
        measured = curvature(
            task, n_beta=settings.n_beta, gamma=settings.gamma, seed=settings.seed,
            behavioural=settings.behavioural, device=device, only=settings.only,
        )  # fmt: skip
        found["n_eff"], found["n_eff_se"] = measured.effective_dimension()
    return found


def _by_function(name: str, function: Callable[[nn.Module], Any], model: nn.Module) -> float:
    try:
        return float(without_graph(function, private_copy(model)))
    except Exception as error:  # whatever a user's function raises
        raise InputError(
            f"reading {name!r} failed with {type(error).__name__}: {_first(error)}; it is called "
            "with the model and must return a number"
        ) from error


def _on_data(
    name: str, model: nn.Module, data: Any, loss: Any, saved: Mapping[str, float] = {}
) -> dict[str, float]:
    """Mean loss and, for classes, share of right answers, a part of the data at a time."""
    try:
        known = losses.resolve(loss, model)
        classes = known.arrange is not None and known.name == "cross_entropy"
        device = next(model.parameters()).device
        total, right, kept, size = 0.0, 0, 0, number_of_examples(data)
        for start in range(0, size, CHUNK):
            inputs, targets = (part.to(device) for part in take(data, slice(start, start + CHUNK)))
            outputs = without_graph(model, inputs)
            if classes and not targets.is_floating_point():
                assert known.arrange is not None
                outputs, targets = known.arrange(outputs, targets), targets.long()
                there = targets != losses.IGNORED
                total += F.cross_entropy(outputs, targets, reduction="sum").item()
                right += int(((outputs.argmax(1) == targets) & there).sum())
                kept += int(there.sum())
            else:
                values: Tensor = known.function(outputs, targets)
                total += values.double().mean().item() * len(targets)
                kept += len(targets)
                classes = False
    except InputError:
        raise
    except Exception as error:  # whatever a user's model or loss raises
        raise InputError(
            f"reading {name!r} failed with {type(error).__name__}: {_first(error)}; its data must "
            "be pairs (inputs, targets) as the task's own"
        ) from error
    found = {f"{name}_loss": total / max(kept, 1)}
    if classes:
        found[f"{name}_accuracy"] = right / max(kept, 1)
    return {key: value for key, value in found.items() if key not in saved}


def _first(error: Exception) -> str:
    return brief(error, 160)
