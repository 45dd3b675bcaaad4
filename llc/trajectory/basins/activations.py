"""What the layers of a model compute: recorded by hooks on a private copy."""

import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llc.data import number_of_examples, take
from llc.errors import InputError, some
from llc.objective import one_attention_path
from llc.private import private_copy
from llc.task import Task

__all__ = ["Probe", "Recorder"]

CHUNK = 512
FEW = 4
INPUT = ".input"
ROOT = "whole"
IDLE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


@dataclass(frozen=True)
class Probe:
    """A layer whose activations can be compared.

    Attributes:
        name: of the module, ``.input`` behind it for what goes into it; ``whole`` for the model.
        features: numbers an example.
    """

    name: str
    features: int


class Recorder:
    """Runs a task's model over examples and keeps what chosen layers give.

    Args:
        task: model and data; the loss decides how the model is called.
        index: the examples to run.
        device: where to run; None keeps the model's own.

    Raises:
        InputError: the task has no data, or its model fails on them.
    """

    def __init__(self, task: Task, index: Tensor, device: str | None = None) -> None:
        if task.data is None:
            raise InputError(
                "the task is a potential without data, and representations need examples: give a "
                "task with data"
            )
        self._task, self._index, self._device = task, index, device
        self.seen, self.default = self._look()

    def choose(self, layers: Sequence[str] | None) -> list[Probe]:
        """Return layers by name or pattern, in the order in which they are computed.

        Without names: every module that gives a tensor and of which no part does, save those that
        do nothing in evaluation mode; and what goes into the last of them, unless that is another
        layer's output. What a model computes between modules is seen as the next one's input.

        Raises:
            InputError: nothing has that name.
        """
        if layers is None:
            return [probe for probe in self.seen if probe.name in self.default]
        names = [probe.name for probe in self.seen]
        for pattern in layers:
            if not fnmatch.filter(names, pattern):
                known = some((n for n in names if not n.endswith(INPUT)), 8) or "none"
                raise InputError(
                    f"no layer is called {pattern!r}, expected of {known}, with {INPUT} behind it "
                    "for what goes into it, or a pattern such as 'blocks.*'"
                )
        return [p for p in self.seen if any(fnmatch.fnmatch(p.name, each) for each in layers)]

    @torch.no_grad()
    def record(self, task: Task, names: Sequence[str]) -> dict[str, Tensor]:
        """Return each layer's activations at a task's weights, ``(examples, features)`` on the CPU.

        A module that is called several times a pass gives its outputs side by side.
        """
        model = self._copy(task)
        parts: dict[str, list[Tensor]] = {name: [] for name in names}
        for start in range(0, len(self._index), CHUNK):
            batch = take(self._task.data, self._index[start : start + CHUNK])
            with _listening(model, set(names)) as heard:
                self._call(model, batch)
            for name in names:
                flat = [value.flatten(1).cpu() for value in heard[name]]
                parts[name].append(torch.cat(flat, 1))
        return {name: torch.cat(found) for name, found in parts.items()}

    @torch.no_grad()
    def _look(self) -> tuple[list[Probe], set[str]]:
        """Find out which layers there are, from a pass over a few examples."""
        model = self._copy(self._task)
        batch = take(self._task.data, self._index[:FEW])
        with _listening(model, None) as heard:
            self._call(model, batch)
        count = number_of_examples(batch)
        probes = [
            Probe(name, sum(value[0].numel() for value in values))
            for name, values in heard.items()
            if all(value.ndim > 0 and len(value) == count for value in values)
        ]
        probes = [probe for probe in probes if probe.features]
        outputs = {p.name for p in probes if not p.name.endswith(INPUT)}
        modules = {name or ROOT: module for name, module in model.named_modules()}
        inner = {name for name in outputs if not _has_part(name, outputs)}
        default = {name for name in inner if not isinstance(modules[name], IDLE)}
        last = [p.name for p in probes if p.name in default][-1:]
        for name in last:
            before = heard.get(name + INPUT)
            given = [value for other in outputs - {name} for value in heard[other]]
            if before and not any(_same(b, value) for b in before for value in given):
                default.add(name + INPUT)
        return probes, default & {p.name for p in probes}

    def _copy(self, task: Task) -> nn.Module:
        model = private_copy(task.model).eval()
        return model if self._device is None else model.to(self._device)

    def _call(self, model: nn.Module, batch: Any) -> None:
        place = next((p.device for p in model.parameters()), torch.device("cpu"))
        batch = torch.utils._pytree.tree_map(lambda leaf: leaf.to(place), batch)
        try:
            with one_attention_path():
                if self._task.batch_loss is not None:
                    self._task.batch_loss(model, batch)
                else:
                    model(batch[0])
        except Exception as error:  # whatever a user's model raises
            raise InputError(
                f"the model failed on a batch of the data: {type(error).__name__}: "
                f"{' '.join(str(error).split())[:160]}; check that the data are what it expects"
            ) from error


@contextmanager
def _listening(model: nn.Module, names: set[str] | None) -> Iterator[dict[str, list[Tensor]]]:
    """Collect what modules take and give, by name in the order of the calls' ends."""
    heard: dict[str, list[Tensor]] = {}
    handles = []
    for path, module in model.named_modules():
        name = path or ROOT
        if names is None or name in names or name + INPUT in names:
            handles.append(module.register_forward_hook(_ear(name, names, heard)))
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _ear(name: str, names: set[str] | None, heard: dict[str, list[Tensor]]) -> Any:
    def hear(_module: nn.Module, given: Any, output: Any) -> None:
        for key, value in ((name + INPUT, given), (name, output)):
            tensor = _first_tensor(value)
            if tensor is not None and (names is None or key in names):
                # A later layer may work in place.
                heard.setdefault(key, []).append(tensor.detach().clone())

    return hear


def _first_tensor(value: Any) -> Tensor | None:
    """Return the first floating-point tensor of what a module takes or gives."""
    if isinstance(value, Tensor):
        return value if value.is_floating_point() else None
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return next((t for t in map(_first_tensor, value) if t is not None), None)
    return None


def _has_part(name: str, names: set[str]) -> bool:
    inside = names - {ROOT} if name == ROOT else {n for n in names if n.startswith(f"{name}.")}
    return bool(inside)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.numel() == other.numel() and torch.equal(one.flatten(), other.flatten())
