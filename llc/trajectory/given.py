"""Checkpoints as they are given: in hand, each with numbers of its own, or in files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from llc.errors import InputError
from llc.formats import Place, place_of, relabelled
from llc.task import Task
from llc.trajectory.sources import Item, Source, Weights, as_items, is_lazy

__all__ = ["given_items", "narrowed"]

ALIKE = 3
ADVICE = "copy each with {k: v.clone() for k, v in model.state_dict().items()}"


def given_items(
    task: Task,
    source: Source,
    entry: str | None = None,
    drop: str | Sequence[str] = (),
    step_from: str | None = None,
) -> Iterator[Item]:
    """Yield the checkpoints of a source, as `as_items`, with which of their tensors are meant.

    Weights that come one by one are copied as they come: a generator may hand out its model's own
    ``state_dict()``, which changes as soon as it is asked for the next one, while several
    checkpoints are held here at a time. In a list such dictionaries are all the last one, and
    refused; frozen parts, or some of the weights, may well be one for all.

    Raises:
        InputError: as `as_items`; or checkpoints share all of their trained weights.
    """
    items = narrowed(as_items(source, step_from), entry, drop)
    if is_lazy(source):
        yield from _copied(task, items)
        return
    known = list(items)
    _refuse_shared(task, known)
    yield from known


def narrowed(items: Iterable[Item], entry: str | None, drop: str | Sequence[str]) -> Iterator[Item]:
    """Pass checkpoints on, with the entry and the patterns that are given."""
    drop = (drop,) if isinstance(drop, str) else tuple(drop)
    given: dict[str, Any] = {"entry": entry} if entry is not None else {}
    given |= {"drop": drop} if drop else {}
    for item in items:
        yield replace(item, **given) if given else item


def _refuse_shared(task: Task, items: Sequence[Item]) -> None:
    seen: dict[tuple[Place | None, ...], Item] = {}
    # One dictionary under two of many steps is meant; under all of them it is kept from a loop.
    lone = len({id(item.weights) for item in items}) == 1
    for item in items:
        # Others may read a tensor from the disk each time that they are asked for it.
        if not isinstance(item.weights, dict):
            continue
        places = tuple(place_of(each) for each in _trained(task, item.read()[0]))
        if not any(places):
            continue
        other = seen.setdefault(places, item)
        if other is not item and (lone or other.weights is not item.weights):
            raise InputError(
                f"the checkpoints of steps {other.step} and {item.step} share one storage, as "
                f"state_dict() of a model that is trained on does: {ADVICE}"
            )


def _copied(task: Task, items: Iterator[Item]) -> Iterator[Item]:
    before: list[Tensor] = []
    values: list[Tensor] = []
    alike = 1
    for item in items:
        if item.weights is None:
            yield item
            continue
        copy = replace(item, weights=_clone(item.weights, {}))
        live, now = (_trained(task, each.read()[0]) for each in (item, copy))
        same = bool(live) and [place_of(t) for t in live] == [place_of(t) for t in before]
        alike = alike + 1 if same and all(map(torch.equal, now, values)) else 1
        if alike == ALIKE:
            raise InputError(
                f"{ALIKE} checkpoints in a row, the last at step {item.step}, are the same weights "
                f"in one storage, as where state_dict() was kept in a list: {ADVICE}"
            )
        before, values = live, now
        yield copy


def _trained(task: Task, weights: Mapping[str, Any]) -> list[Tensor]:
    """Tensors of a checkpoint that training moves, as far as the names are the model's."""
    named = dict(task.model.named_parameters(remove_duplicate=False))
    own = [key for key in weights if key in named]
    keys = [key for key in own if named[key].requires_grad] or list(weights)
    found = [weights[key] for key in sorted(keys, key=str)]
    return [each for each in found if isinstance(each, Tensor) and each.is_floating_point()]


def _clone(weights: Weights, copies: dict[Place, Tensor]) -> Any:
    """Copy a nest of tensors; names of one tensor stay names of one tensor."""
    found = relabelled(weights, {key: key for key in weights})
    for key, value in weights.items():
        if isinstance(value, Mapping):
            found[key] = _clone(value, copies)
        elif isinstance(value, Tensor):
            place = place_of(value)
            copy = value.detach().clone() if place not in copies else copies[place]
            if place is not None:
                copies[place] = copy
            found[key] = copy
        else:
            found[key] = value
    return found
