"""How alike the representations of checkpoints are, layer by layer."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llc.diagnostics import Array
from llc.errors import InputError
from llc.isolation import undisturbed
from llc.params import stream_seed
from llc.task import Task
from llc.trajectory.basins.activations import Probe, Recorder
from llc.trajectory.basins.landscape import Weights, weights_of
from llc.trajectory.basins.measures import alike, reduced, turned

__all__ = ["EXAMPLES", "Similarity", "check_examples", "compare", "similarity"]

EXAMPLES = 512
GROUP_BYTES = 2**30
MOST_BYTES = 2**32


@dataclass(frozen=True)
class Similarity:
    """Similarities of checkpoints' representations, layer by layer.

    Attributes:
        cka: layer → linear CKA of every pair, ``(checkpoints, checkpoints)``; nan where a layer
            is constant over the examples.
        procrustes: layer → the same of Procrustes similarity.
        examples: how many were compared.
        left_out: layer → why it was not compared.
    """

    cka: Mapping[str, Array]
    procrustes: Mapping[str, Array]
    examples: int
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names, in the order in which the model computes them."""
        return tuple(self.cka)

    @property
    def hidden(self) -> str:
        """The last layer before the output."""
        return self.layers[-2] if len(self.layers) > 1 else self.layers[-1]


def similarity(
    task: Task,
    weights: Sequence[Weights],
    layers: Sequence[str] | None = None,
    examples: int = EXAMPLES,
    *,
    seed: int = 0,
    data: Any = None,
    device: str | None = None,
) -> Similarity:
    """Compare the representations of several checkpoints on the same examples.

    Activations X, one row an example, all else flattened, are taken in evaluation mode and
    centred; the measures are `llc.trajectory.basins.cka` and `llc.trajectory.basins.procrustes`.
    With fewer examples than features both are biased upwards: compare numbers of one layer with
    one another, not layers of different width.

    Args:
        task: the model (its own weights do not matter), data and loss.
        weights: state dicts or checkpoint files.
        layers: names of modules, or patterns such as ``"blocks.*"``; ``.input`` behind a name
            means what goes into it. None takes every module without active parts, and what goes
            into the last of them.
        examples: how many to compare, drawn without replacement.
        seed: of that draw.
        data: take examples from these instead of the task's own.
        device: where to run the model; None keeps its own.

    Raises:
        InputError: fewer than two checkpoints or examples, no such layer, a task without data,
            or none of the layers can be compared.
    """
    if len(weights) < 2:
        raise InputError(f"weights holds {len(weights)} checkpoints, expected at least 2")
    check_examples(examples)
    if data is not None:
        task = replace(task, data=data)
    return compare(task, weights, layers, examples, seed, device)


def compare(
    task: Task,
    weights: Sequence[Weights],
    layers: Sequence[str] | None,
    examples: int,
    seed: int,
    device: str | None,
    report: Callable[[], None] = lambda: None,
) -> Similarity:
    """Do what `similarity` says; ``report`` is called after each checkpoint's pass."""
    size, count = task.size or 0, len(weights)
    draw = torch.Generator().manual_seed(stream_seed(seed, "examples", 0))
    index = torch.randperm(size, generator=draw)[:examples].sort().values
    with undisturbed():
        recorder = Recorder(task.at(weights_of(weights[0])), index, device)
        chosen = recorder.choose(layers)
        left_out = {
            probe.name: f"{probe.features:,} features of {len(index)} examples take more than "
            f"{MOST_BYTES / 2**30:.0f} GiB: take fewer examples"
            for probe in chosen
            if _bytes(probe, len(index), count) > MOST_BYTES
        }
        kept = [probe for probe in chosen if probe.name not in left_out]
        if not kept:
            why = next(iter(left_out.values()), "none gives a tensor with a row an example")
            raise InputError(f"no layer can be compared: {why}")
        found_cka: dict[str, Array] = {}
        found_turned: dict[str, Array] = {}
        for group in _groups(kept, len(index), count):
            seen: dict[str, list[Tensor]] = {name: [] for name in group}
            for each in weights:
                found = recorder.record(task.at(weights_of(each)), group)
                for name in group:
                    seen[name].append(reduced(found.pop(name)))
                report()
            for name in group:
                found_cka[name], found_turned[name] = _pairs(seen.pop(name))
    return Similarity(found_cka, found_turned, len(index), left_out)


def check_examples(examples: int) -> None:
    """Refuse a number of examples that leaves nothing to compare."""
    if isinstance(examples, bool) or not isinstance(examples, int) or examples < 2:
        raise InputError(f"examples is {examples!r}, expected a whole number of at least 2")


def _pairs(seen: Sequence[Tensor]) -> tuple[Array, Array]:
    """Both similarities of every pair; the diagonal is 1, or nan of a constant."""
    count = len(seen)
    near, spun = np.full((count, count), np.nan), np.full((count, count), np.nan)
    for i in range(count):
        if not seen[i].isnan().any():
            near[i, i] = spun[i, i] = 1.0
        for j in range(i):
            near[i, j] = near[j, i] = alike(seen[i], seen[j])
            spun[i, j] = spun[j, i] = turned(seen[i], seen[j])
    return near, spun


def _bytes(probe: Probe, examples: int, checkpoints: int) -> int:
    """Memory of a layer: one checkpoint's raw, in double precision, and all of them reduced."""
    raw = 4 * examples * probe.features * 8
    return raw + checkpoints * examples * min(examples, probe.features) * 8


def _groups(probes: Iterable[Probe], examples: int, checkpoints: int) -> list[list[str]]:
    """Put layers together that fit into memory together; each group takes passes of its own."""
    groups: list[list[str]] = []
    room = 0
    for probe in probes:
        need = _bytes(probe, examples, checkpoints)
        if not groups or need > room:
            groups.append([])
            room = GROUP_BYTES
        groups[-1].append(probe.name)
        room -= need
    return groups
