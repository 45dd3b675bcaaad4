"""Training data with exceptions: seeded examples whose targets are no longer their own."""

from dataclasses import replace

import torch
from torch import Tensor

from llc import losses
from llc.errors import InputError
from llc.isolation import undisturbed
from llc.params import stream_seed
from llc.private import private_copy
from llc.task import Task

__all__ = ["are_classes", "exceptions", "pairs_of", "relabel"]

PROBE = 2


def relabel(task: Task, count: int, *, seed: int = 0) -> Task:
    """Return the task with other targets at ``count`` of its examples: exceptions to memorise.

    Under cross-entropy with classes as targets, an exception's class is drawn uniformly from all
    others; in targets with several positions, at each that is not ignored (-100). Elsewhere it has
    the target of another example, the next in seeded order whose target differs, so that targets
    keep their distribution. Examples and targets are nested: the exceptions of a smaller count are
    among those of a larger one, with the same targets. The model is not copied, and not changed.

    Args:
        task: with ``loss`` and pairs (inputs, targets).
        count: exceptions, from 0 to the number of examples that have a target.
        seed: of examples and targets.

    Returns:
        The task; its inputs are the same tensor.

    Raises:
        InputError: the task has no pairs, there are fewer examples, or no other target exists.
    """
    inputs, targets = pairs_of(task)
    chosen = exceptions(task, count, seed=seed)
    if not len(chosen):
        return task
    if are_classes(task):
        other = _other_classes(targets, _classes(task), seed)
    else:
        other = _other_targets(targets, _order(targets, seed), count)
    changed = targets.clone()
    changed[chosen] = other[chosen]
    return replace(task, data=(inputs, changed), name=f"{task.label}, {count} relabelled")


def exceptions(task: Task, count: int, *, seed: int = 0) -> Tensor:
    """Return the places of the examples that `relabel` gives other targets, ``(count,)``.

    Args:
        task: with ``loss`` and pairs (inputs, targets).
        count: exceptions; those of a smaller count are the first of a larger one's.
        seed: of the choice, as for `relabel`.

    Raises:
        InputError: as `relabel`.
    """
    _, targets = pairs_of(task)
    order = _order(targets, seed)
    if not 0 <= count <= len(order):
        raise InputError(
            f"{count} exceptions asked for, expected a whole number from 0 to {len(order)}, the "
            "number of examples with a target"
        )
    return order[:count]


def pairs_of(task: Task) -> tuple[Tensor, Tensor]:
    """Return inputs and targets.

    Raises:
        InputError: the task has none.
    """
    if task.loss is None:
        kind = "batch_loss" if task.batch_loss is not None else "potential"
        raise InputError(
            f"the task has a {kind}, expected loss(outputs, targets) with data as pairs (inputs, "
            "targets): only targets can be relabelled and fitted"
        )
    inputs, targets = task.data
    return inputs, targets


def are_classes(task: Task) -> bool:
    """Whether the targets are classes under cross-entropy."""
    assert task.loss is not None
    _, targets = pairs_of(task)
    return losses.resolve(task.loss).name == "cross_entropy" and not targets.is_floating_point()


def _order(targets: Tensor, seed: int) -> Tensor:
    """All examples with a target, in seeded order: exceptions are taken from its beginning."""
    order = torch.randperm(len(targets), generator=_generator(seed, "exceptions"))
    if targets.is_floating_point():
        return order
    has_one = (targets != losses.IGNORED).reshape(len(targets), -1).any(1).cpu()
    return order[has_one[order]]


def _classes(task: Task) -> int:
    """Classes that the model tells apart."""
    inputs, targets = pairs_of(task)
    with undisturbed(), torch.no_grad():
        model = private_copy(task.model).eval()
        outputs = model(inputs[:PROBE].to(next(model.parameters()).device))
        count = outputs.shape[losses.class_dimension(outputs, targets[:PROBE])]
    if count < 2:
        raise InputError(f"the model has {count} class, expected at least 2 to relabel with")
    return count


def _other_classes(targets: Tensor, classes: int, seed: int) -> Tensor:
    """Another class for every target, uniform over all but its own; ignored ones stay."""
    draw = torch.randint(1, classes, targets.shape, generator=_generator(seed, "labels"))
    other = (targets + draw.to(targets)) % classes
    return torch.where(targets == losses.IGNORED, targets, other)


def _other_targets(targets: Tensor, order: Tensor, count: int) -> Tensor:
    """For the first in order the target of the next after each whose target is another."""
    result = targets.clone()
    rows = targets.reshape(len(targets), -1)
    todo = torch.arange(count)
    for shift in range(1, len(order)):
        own, donors = order[todo], order[(todo + shift) % len(order)]
        differs = (rows[donors] != rows[own]).any(1).cpu()
        result[own[differs]] = targets[donors[differs]]
        todo = todo[~differs]
        if not len(todo):
            return result
    raise InputError("all targets are alike, expected several to relabel with")


def _generator(seed: int, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(stream_seed(seed, purpose, 0))
