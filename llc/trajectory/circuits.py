"""Fourier measures of modular addition over training, and the birth of each frequency."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llc.diagnostics import Array
from llc.errors import InputError
from llc.files import read_json, write_whole
from llc.isolation import undisturbed
from llc.progress import Bar
from llc.task import Task
from llc.tasks import fourier
from llc.trajectory.given import given_items
from llc.trajectory.sources import Source

__all__ = ["Birth", "Circuits", "circuits"]


@dataclass(frozen=True)
class Birth:
    """When one frequency came to be used.

    Attributes:
        frequency: k.
        step: from here on its amplitude A_k stays above half of its last value.
        start: from here on above a tenth of it.
        end: from here on above nine tenths of it.
        amplitude: its last value, in nats.
    """

    frequency: int
    step: float
    start: float
    end: float
    amplitude: float


@dataclass(frozen=True, eq=False)
class Circuits:
    """Fourier measures at each checkpoint.

    Attributes:
        prime: p.
        frequencies: the key frequencies: of the last checkpoint, unless given.
        steps: shape ``(checkpoints,)``.
        amplitudes: A_k for k = 1 … (p−1)/2, shape ``(checkpoints, (p−1)/2)``, in nats.
        share: part of the logits' variance over pairs that each makes, of the same shape.
        restricted_loss: from the key frequencies alone, all pairs, shape ``(checkpoints,)``.
        excluded_loss: without them, training pairs, shape ``(checkpoints,)``.
        gini: of the squared amplitudes, shape ``(checkpoints,)``.
    """

    prime: int
    frequencies: tuple[int, ...]
    steps: Array
    amplitudes: Array
    share: Array
    restricted_loss: Array
    excluded_loss: Array
    gini: Array

    @property
    def births(self) -> list[Birth]:
        """Key frequencies by the step they were born at."""
        found = []
        for k in self.frequencies:
            curve = self.amplitudes[:, k - 1]
            half, start, end = (
                _stays_above(self.steps, curve, part * curve[-1]) for part in (0.5, 0.1, 0.9)
            )
            found.append(Birth(k, half, start, end, float(curve[-1])))
        return sorted(found, key=lambda birth: birth.step)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON takes it."""
        values = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(self).items()}
        return {**values, "births": [asdict(birth) for birth in self.births]}

    def save(self, path: str | Path) -> Path:
        """Write JSON."""
        path = Path(path)
        write_whole(path, json.dumps(self.to_dict(), allow_nan=False).encode())
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Circuits":
        """Read what `save` wrote.

        Raises:
            InputError: there is no such file, or it holds something else.
        """
        try:
            values = read_json(Path(path))
            arrays = {k: np.array(values[k], dtype=float) for k in _ARRAYS}
            return cls(int(values["prime"]), tuple(values["frequencies"]), **arrays)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise InputError(
                f"{path} holds no Fourier measures, expected a file that rlct fourier wrote"
            ) from error

    def __str__(self) -> str:
        last = len(self.steps) - 1
        keys = ", ".join(map(str, self.frequencies))
        part = self.share[last, [k - 1 for k in self.frequencies]].sum()
        lines = [
            f"{len(self.steps)} checkpoints, p = {self.prime}; key frequencies {keys}: "
            f"{part:.0%} of the logits' variance at step {self.steps[last]:,.0f}",
            f"restricted loss {self.restricted_loss[last]:.3g}, excluded loss "
            f"{self.excluded_loss[last]:.3g}, Gini {self.gini[last]:.2f} at the end",
        ]
        lines += [
            f"frequency {b.frequency:>3}: half of its amplitude {b.amplitude:.2f} from step "
            f"{b.step:,.0f} on (a tenth {b.start:,.0f}, nine tenths {b.end:,.0f})"
            for b in self.births
        ]
        return "\n".join(lines)


_ARRAYS = ("steps", "amplitudes", "share", "restricted_loss", "excluded_loss", "gini")


def circuits(
    task: Task,
    checkpoints: Source,
    *,
    frequencies: Sequence[int] | None = None,
    progress: bool = False,
    step_from: str | None = None,
    entry: str | None = None,
    drop: str | Sequence[str] = (),
) -> Circuits:
    """Measure a network that adds modulo p in the Fourier basis, at every checkpoint.

    Nanda et al. 2023 (arXiv 2301.05217), section 5; see `llc.tasks.fourier`.

    Args:
        task: its training data are pairs of numbers, all of 0 … p−1 among them, and their sums.
        checkpoints: as for `llc.trace`.
        frequencies: key frequencies; those with 2 % of the last checkpoint's variance if left out.
        progress: whether to show a bar.
        step_from: as for `llc.trace`.
        entry: which state dict to read from files that hold several, as for `llc.load_weights`.
        drop: patterns of names to leave out of every checkpoint, as for `llc.load_weights`.

    Returns:
        The measures, by step.

    Raises:
        InputError: the task is of another kind, no frequency stands out, or no checkpoint.
    """
    prime = _prime(task)
    items = list(given_items(task, checkpoints, entry, drop, step_from))
    if not items:
        raise InputError("checkpoints is empty: give at least one")
    rows = []
    with undisturbed(), torch.no_grad(), ExitStack() as stack:
        report = stack.enter_context(Bar("fourier")) if progress else None
        keys = frequencies
        if keys is None:
            keys = fourier.key_frequencies(task.at(items[-1].read()[0]).model.eval(), prime)
        if not keys:
            raise InputError(
                f"no frequency makes 2 % of the logits' variance at step {items[-1].step}: the "
                "network has not understood addition; name frequencies to measure all the same"
            )
        for done, item in enumerate(items):
            model = task.at(item.read()[0]).model.eval()
            rows.append(fourier.measure(model, prime, task.data, keys))
            if report is not None:
                report("checkpoints", done + 1, len(items))
    return Circuits(
        prime,
        tuple(int(k) for k in keys),
        np.array([item.step for item in items], dtype=float),
        np.stack([row.amplitudes.numpy() for row in rows]),
        np.stack([row.share.numpy() for row in rows]),
        np.array([row.restricted_loss for row in rows]),
        np.array([row.excluded_loss for row in rows]),
        np.array([row.gini for row in rows]),
    )


def _prime(task: Task) -> int:
    data = task.data
    pair = isinstance(data, tuple | list) and len(data) == 2
    if not pair or data[0].ndim != 2 or data[0].shape[1] != 2 or data[0].is_floating_point():
        raise InputError(
            f"the data of {task.label} are no pairs of numbers, shape (n, 2): Fourier measures are "
            "for networks that add modulo p"
        )
    return int(data[0].max()) + 1


def _stays_above(steps: Array, curve: Array, level: float) -> float:
    """The step from which on a curve stays above a level; it ends above it."""
    below = np.flatnonzero(curve < level)
    if not len(below):
        return float(steps[0])
    last = below[-1]
    part = (level - curve[last]) / (curve[last + 1] - curve[last])
    return float(steps[last] + part * (steps[last + 1] - steps[last]))
