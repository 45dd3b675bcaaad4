"""Exceptions learned by heart: one fine-tuning run for each number of them, from one checkpoint."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llc import losses
from llc.errors import InputError
from llc.files import read_json, write_whole
from llc.isolation import undisturbed
from llc.params import stream_seed
from llc.planting.fitted import Fitted
from llc.planting.relabelled import exceptions, pairs_of, relabel
from llc.planting.variant import Variant, found, kept
from llc.private import private_copy
from llc.settings import Settings
from llc.task import Task
from llc.trajectory.fingerprints import fingerprint_task, fingerprint_values
from llc.trajectory.readings import measure_readings

__all__ = ["Recipe", "plant"]

CHECK_EVERY = 50
MARK = "planting.json"
Report = Callable[[int, int, int], None]


@dataclass(frozen=True)
class Recipe:
    """How to fine-tune.

    Attributes:
        steps: of Adam at least, with or without exceptions.
        most_steps: where a run ends that has not fitted everything.
        learning_rate: of Adam.
        weight_decay: added to the gradient as weight_decay·w (``torch.optim.Adam``'s).
        train_batch: examples a step, drawn with replacement; all if there are fewer.
        loss_below: mean loss at which exceptions, and all examples, count as fitted where targets
            are no classes.
        seed: of exceptions, their targets and the batches.
    """

    steps: int = 2000
    most_steps: int = 20_000
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    train_batch: int = 128
    loss_below: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("most_steps", self.steps), ("train_batch", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise InputError(f"{name} is {value}, expected a whole number of at least {least}")
        if not self.learning_rate > 0 or not math.isfinite(self.learning_rate):
            raise InputError(f"learning_rate is {self.learning_rate}, expected a number above 0")
        if not self.weight_decay >= 0 or not math.isfinite(self.weight_decay):
            raise InputError(f"weight_decay is {self.weight_decay}, expected a number from 0 on")
        if self.loss_below is not None and not self.loss_below > 0:
            raise InputError(f"loss_below is {self.loss_below}, expected a number above 0")


def plant(
    task: Task,
    counts: Sequence[int],
    *,
    out: str | Path | None = None,
    report: Report | None = None,
    **recipe: Any,
) -> list[Variant]:
    """Fine-tune a checkpoint once for each number of exceptions until all of them are learned.

    Each run starts at the task's weights, trains by Adam on data from `relabel`, and ends as soon
    as every example is fitted, exceptions or not, but not before ``steps``: the run without
    exceptions (``counts`` should hold 0) is the control that shares optimiser, batches and number
    of steps. Classes are fitted when the largest output is the target's; where targets are no
    classes, when the mean loss over the exceptions and over all examples is below ``loss_below``.
    The model is in evaluation mode (no dropout, statistics of batches kept), and only what needs a
    gradient is trained. Deterministic in its arguments on one machine; the process's random state
    is kept.

    The variants share inputs, so that one task with the behavioural loss serves to compare their
    LLCs: ``llc.trace(task, variants, behavioural=True)``.

    Args:
        task: at the checkpoint's weights; not changed.
        counts: numbers of exceptions, different.
        out: folder for the checkpoints, ``step_NNNNNNN.safetensors`` with the count for a step;
            those already there by the same recipe are not made again.
        report: called with (count, steps done, most steps).
        **recipe: fields of `Recipe`.

    Returns:
        A variant for each count, in rising order, its step the count. Metadata: ``planted`` (the
        count), ``examples_fitted`` and, where there are any, ``exceptions_fitted`` (shares; where
        targets are no classes, 1 or 0), ``planting_steps``, ``relabelled_loss`` (towards the
        targets trained on), and the readings of `llc.trace`, of which ``train_loss`` and
        ``train_accuracy`` are towards the task's own targets.

    Raises:
        InputError: as `relabel`; a number or a field of the recipe is out of range; ``loss_below``
            is needed; the loss is not finite; or the folder holds variants of another recipe.
    """
    chosen, folder = _recipe(recipe), None if out is None else Path(out)
    wanted = sorted({int(count) for count in counts})
    if not wanted or len(wanted) != len(list(counts)):
        raise InputError(
            f"counts is {list(counts)}, expected different numbers, such as [0, 5, 20]"
        )
    for count in wanted:
        relabel(task, count, seed=chosen.seed)
    fitted = Fitted(task, chosen.loss_below)
    _claim(task, chosen, folder)
    variants = []
    for count in wanted:
        made = found(count, folder)
        if made is None:
            made = kept(_planted(task, count, chosen, fitted, report), folder)
        variants.append(made)
    return variants


def _recipe(given: dict[str, Any]) -> Recipe:
    unknown = sorted(set(given) - set(Recipe.__dataclass_fields__))
    if unknown:
        known = ", ".join(Recipe.__dataclass_fields__)
        raise InputError(f"plant got {unknown[0]!r}, expected one of {known}")
    return Recipe(**given)


def _planted(
    task: Task, count: int, recipe: Recipe, fitted: Fitted, report: Report | None
) -> Variant:
    changed = relabel(task, count, seed=recipe.seed)
    inputs, targets = pairs_of(changed)
    chosen = exceptions(task, count, seed=recipe.seed)
    with undisturbed(), torch.enable_grad():
        model = private_copy(task.model).eval()
        steps, measured = 0, {}
        for steps in _descend(model, fitted.loss, inputs, targets, recipe):
            last = steps == recipe.most_steps
            if steps >= recipe.steps and (last or (steps - recipe.steps) % CHECK_EVERY == 0):
                measured = fitted(model, targets, chosen)
                if last or _all(measured):
                    break
            if report is not None and steps % CHECK_EVERY == 0:
                report(count, steps, recipe.most_steps)
    if not math.isfinite(measured["relabelled_loss"]):
        raise InputError(
            f"fine-tuning on {count} exceptions ran away: give a learning_rate below "
            f"{recipe.learning_rate:g}"
        )
    numbers = {"planted": float(count), **measured, "planting_steps": float(steps)}
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    readings = measure_readings(replace(task, model=model), Settings(), numbers)
    return Variant(count, weights, readings)


def _descend(
    model: nn.Module, loss: losses.Loss, inputs: Tensor, targets: Tensor, recipe: Recipe
) -> Iterator[int]:
    """Take steps of Adam and yield their number; batches are those of any other count."""
    weights = [p for p in model.parameters() if p.requires_grad]
    device = next(model.parameters()).device
    inputs, targets = inputs.to(device), targets.to(device)
    optimiser = torch.optim.Adam(weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    order = torch.Generator().manual_seed(stream_seed(recipe.seed, "planting", 0))
    towards = losses.over_kept(loss, targets).function
    size = min(recipe.train_batch, len(targets))
    for step in range(1, recipe.most_steps + 1):
        index = torch.randint(len(targets), (size,), generator=order).to(device)
        if size == len(targets):
            index = torch.arange(size, device=device)
        optimiser.zero_grad()
        towards(model(inputs[index]), targets[index]).mean().backward()
        optimiser.step()
        yield step


def _all(measured: dict[str, float]) -> bool:
    """Whether everything is fitted, exceptions by themselves too."""
    return measured["examples_fitted"] == measured.get("exceptions_fitted", 1) == 1


def _claim(task: Task, recipe: Recipe, folder: Path | None) -> None:
    """Note in the folder what its variants are made of; refuse one that holds others."""
    if folder is None:
        return
    own = fingerprint_task(task) + fingerprint_values(dict(task.model.state_dict()))
    plan = {**asdict(recipe), "made_of": hashlib.sha256(own.encode()).hexdigest()}
    path = folder / MARK
    if path.is_file():
        kept_plan = read_json(path)
        changed = [
            f"{name} {kept_plan.get(name)} (now {value})" for name, value in plan.items()
            if kept_plan.get(name) != value and name != "made_of"
        ]  # fmt: skip
        if kept_plan != plan:
            what = ", ".join(changed) or "of another checkpoint or task"
            raise InputError(f"{folder} holds other plants, {what}: give another folder as out")
    write_whole(path, json.dumps(plan, indent=1).encode())
