"""Barriers and similarities between the checkpoints of a run: the result, its words, its files."""

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llc.diagnostics import Array
from llc.errors import InputError, brief
from llc.files import read_json, write_whole

__all__ = ["KINDS", "Basins"]

KINDS = {"straight": "barrier", "aligned": "barrier_aligned", "curve": "barrier_curve"}
SHARE = 0.01
PAIRED = ("distance", "barrier", "rise", "distance_aligned", "barrier_aligned", "barrier_curve")


@dataclass(frozen=True)
class Basins:
    """Every pair of some checkpoints, by training step; matrices are ``(checkpoints,) * 2``.

    Attributes:
        name: of the task.
        steps: training steps, rising.
        loss: at each checkpoint, over all data.
        resolution: a barrier below this may be rounding.
        distance: ‖w_i − w_j‖.
        barrier: height along the straight line; see `llc.barrier`.
        rise: height above the higher end of it.
        barrier_aligned: the same after the earlier checkpoint is brought as near to the later as
            the architecture's symmetries allow; None where none are known, or not asked for.
        distance_aligned: ‖w_i − w_j‖ then.
        barrier_curve: along an optimised curve, nan where not measured; None where none was.
        cka: layer → linear CKA; empty for a task without data.
        procrustes: layer → Procrustes similarity.
        hidden: the layer that figures show: the last before the output.
        settings: what decided the numbers.
        notes: sentences on what was left out, and why.
        skipped: step → sentence, for checkpoints that could not be used.
    """

    name: str
    steps: tuple[int, ...]
    loss: Array
    resolution: float
    distance: Array
    barrier: Array
    rise: Array
    barrier_aligned: Array | None = None
    distance_aligned: Array | None = None
    barrier_curve: Array | None = None
    cka: Mapping[str, Array] = field(default_factory=dict)
    procrustes: Mapping[str, Array] = field(default_factory=dict)
    hidden: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    skipped: Mapping[int, str] = field(default_factory=dict)

    def heights(self, kind: str = "straight") -> Array | None:
        """Return the matrix of barriers ``"straight"``, ``"aligned"`` or ``"curve"``, or None.

        Raises:
            InputError: another kind.
        """
        if kind not in KINDS:
            raise InputError(f"kind is {kind!r}, expected {', '.join(map(repr, KINDS))}")
        return getattr(self, KINDS[kind])

    def to_last(self, kind: str = "straight") -> Array:
        """Return each checkpoint's barrier to the last, shape ``(checkpoints,)``."""
        return self._row(kind, lambda matrix: matrix[:, -1])

    def between_neighbours(self, kind: str = "straight") -> Array:
        """Return the barriers between neighbours, shape ``(checkpoints − 1,)``."""
        return self._row(kind, lambda matrix: np.diagonal(matrix, 1))

    def connected_from(
        self, level: float | None = None, kind: str = "straight"
    ) -> tuple[int, float]:
        """Return the first step from which on every barrier to the last is at most a level.

        Args:
            level: None takes 1 % of the highest of these barriers, or the resolution if larger.
            kind: of barrier.

        Returns:
            The step, and the level.
        """
        heights = self.to_last(kind)
        if level is None:
            level = max(SHARE * float(np.nanmax(heights)), self.resolution)
        above = np.flatnonzero(~(heights <= level))
        first = 0 if not len(above) else int(above[-1]) + 1
        return self.steps[min(first, len(self.steps) - 1)], level

    def __str__(self) -> str:
        data = self.settings.get("data", "own")
        on = "" if data == "own" else f", on other data ({data})"
        lines = [f"{self.name}: {len(self.steps)} checkpoints, steps {self._span()}{on}"]
        for kind in KINDS:
            if self.heights(kind) is not None:
                lines += [f"{kind}: {self._to_last_in_words(kind)}", self._neighbours(kind)]
        if self.hidden is not None:
            alike, turned = (m[self.hidden][:, -1] for m in (self.cka, self.procrustes))
            lines.append(
                f"layer {self.hidden} against the last checkpoint: CKA {alike[0]:.2f} at first, "
                f"{alike[-2]:.2f} just before; Procrustes {turned[0]:.2f} and {turned[-2]:.2f}"
            )
        lines += [f"! {note}" for note in self.notes]
        lines += [f"! step {step} left out: {why}" for step, why in self.skipped.items()]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values: nan becomes null, infinity the text inf."""
        found: dict[str, Any] = {
            "name": self.name,
            "steps": list(self.steps),
            "loss": _plain(self.loss),
            "resolution": self.resolution,
            "hidden": self.hidden,
            "settings": dict(self.settings),
            "notes": list(self.notes),
            "skipped": {str(step): why for step, why in self.skipped.items()},
        }
        for name in PAIRED:
            value = getattr(self, name)
            found[name] = None if value is None else _plain(value)
        for name in ("cka", "procrustes"):
            found[name] = {layer: _plain(value) for layer, value in getattr(self, name).items()}
        return found

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Basins":
        """Undo `to_dict`."""
        found = dict(record)
        for name in ("loss", *PAIRED):
            found[name] = None if found[name] is None else _array(found[name])
        for name in ("cka", "procrustes"):
            found[name] = {layer: _array(value) for layer, value in found[name].items()}
        found["steps"], found["notes"] = tuple(found["steps"]), tuple(found["notes"])
        found["skipped"] = {int(step): why for step, why in found["skipped"].items()}
        return cls(**found)

    def save(self, path: str | Path) -> Path:
        """Write as JSON."""
        path = Path(path)
        write_whole(path, json.dumps(self.to_dict(), indent=1, allow_nan=False).encode())
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Basins":
        """Read what `save` wrote, or the ``basins.json`` of a folder.

        Raises:
            InputError: there is no such file, or it holds something else.
        """
        path = Path(path)
        path = path / "basins.json" if path.is_dir() else path
        try:
            return cls.from_dict(read_json(path))
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist, expected what rlct basins wrote") from error
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path} is not what rlct basins wrote ({brief(repr(error))})"
            ) from error

    def to_csv(self, path: str | Path) -> Path:
        """Write one row a pair: both steps, distances, barriers, similarities by layer."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        columns = {name: getattr(self, name) for name in PAIRED}
        for name in ("cka", "procrustes"):
            columns |= {f"{name} {layer}": m for layer, m in getattr(self, name).items()}
        columns = {name: matrix for name, matrix in columns.items() if matrix is not None}
        writer.writerow(["step", "other_step", *columns])
        for i, step in enumerate(self.steps):
            for j in range(i + 1, len(self.steps)):
                row = [f"{matrix[i, j]:.8g}" for matrix in columns.values()]
                writer.writerow([step, self.steps[j], *row])
        path = Path(path)
        write_whole(path, buffer.getvalue().encode())
        return path

    def _row(self, kind: str, pick: Any) -> Array:
        matrix = self.heights(kind)
        if matrix is None:
            raise InputError(
                f"no barrier of kind {kind} was measured: {brief('; '.join(self.notes))}"
            )
        return np.array(pick(matrix))

    def _span(self) -> str:
        return f"{self.steps[0]:,} … {self.steps[-1]:,}"

    def _to_last_in_words(self, kind: str) -> str:
        heights = self.to_last(kind)[:-1]
        top = int(np.nanargmax(heights))
        if heights[top] <= self.resolution:
            return "no barrier to the last checkpoint from any other"
        step, level = self.connected_from(None, kind)
        high = (
            f"barrier to the last checkpoint at most {heights[top]:.3g} (step {self.steps[top]:,})"
        )
        if step == self.steps[-1]:
            return f"{high}, above 1 % of that until the last"
        return f"{high}, below 1 % of that ({level:.2g}) from step {step:,} on"

    def _neighbours(self, kind: str) -> str:
        heights = self.between_neighbours(kind)
        top = int(np.nanargmax(heights))
        if heights[top] <= self.resolution:
            return "          none between neighbours"
        pair = f"steps {self.steps[top]:,} and {self.steps[top + 1]:,}"
        return f"          between neighbours at most {heights[top]:.3g} ({pair})"


def _plain(values: Array) -> Any:
    if values.ndim > 1:
        return [_plain(row) for row in values]
    return [_number(float(value)) for value in values]


def _number(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def _array(values: Any) -> Array:
    return np.array(
        [[math.nan if v is None else v for v in row] if isinstance(row, list)
         else math.nan if row is None else row for row in values], dtype=float
    )  # fmt: skip
