"""Pairs of checkpoints, measured one by one and put together as matrices."""

from typing import Any

import numpy as np

from llc.diagnostics import Array
from llc.trajectory.basins.alignment import Alignment
from llc.trajectory.basins.curves import curved
from llc.trajectory.basins.kept import Pieces
from llc.trajectory.basins.landscape import Place
from llc.trajectory.basins.lines import Barrier, straight
from llc.trajectory.basins.shelf import Shelf

__all__ = ["Pairs"]


class Pairs:
    """Barriers between the checkpoints of a shelf.

    Args:
        shelf: the checkpoints.
        pieces: where finished pairs are kept.
        points: of each path.
        curve: bends, budget, batch size and seed of curves.
    """

    def __init__(
        self, shelf: Shelf, pieces: Pieces, points: int, curve: tuple[int, int, int | None, int]
    ) -> None:
        self._shelf, self._pieces, self._points, self._curve = shelf, pieces, points, curve
        self._found: dict[tuple[str, int, int], dict[str, Any]] = {}

    def measure(self, kind: str, i: int, j: int, alignment: Alignment | None) -> None:
        """Measure one pair in one way, unless that was done before."""
        marks = self._shelf.marks
        what: dict[str, Any] = {"kind": kind, "weights": [marks[i], marks[j]],
                                "points": self._points}  # fmt: skip
        if kind == "aligned" and alignment is not None:
            what["symmetries"] = alignment.key
        if kind == "curve":
            what["curve"] = self._curve
        key = kind, i, j
        self._found[key] = self._pieces.get(what, lambda: self._make(kind, i, j, alignment))

    def matrices(self) -> dict[str, Any]:
        """Return what of `llc.Basins` pairs decide."""
        count = len(self._shelf.items)
        kinds = {kind for kind, _, _ in self._found}
        loss = np.zeros(count)
        for (kind, i, j), pair in self._found.items():
            if kind == "straight":
                loss[i], loss[j] = pair["ends"]
        resolution = max(pair["resolution"] for pair in self._found.values())
        found: dict[str, Any] = {"loss": loss, "resolution": resolution}
        for name in ("distance", "rise"):
            found[name] = self._matrix("straight", name)
        found["barrier"] = self._matrix("straight", "height")
        if "aligned" in kinds:
            found["barrier_aligned"] = self._matrix("aligned", "height")
            found["distance_aligned"] = self._matrix("aligned", "distance")
        if "curve" in kinds:
            found["barrier_curve"] = self._matrix("curve", "height")
        return found

    def _make(self, kind: str, i: int, j: int, alignment: Alignment | None) -> dict[str, Any]:
        land, other = self._shelf.land, self._shelf.place(j)
        one = self._shelf.place(i)
        if kind == "aligned" and alignment is not None:
            moved = alignment.move(self._shelf.weights(i), self._shelf.weights(j))
            one = land.place(moved)
        barrier = straight(land, one, other, self._points)
        if kind == "curve":
            barrier = curved(land, one, other, barrier, *self._curve)
        return _record(barrier, one, other)

    def _matrix(self, kind: str, name: str) -> Array:
        """Symmetric, 0 on the diagonal, nan where nothing was measured."""
        count = len(self._shelf.items)
        matrix = np.full((count, count), np.nan)
        np.fill_diagonal(matrix, 0.0)
        for (found, i, j), pair in self._found.items():
            if found == kind:
                matrix[i, j] = matrix[j, i] = float(pair[name])
        return matrix


def _record(barrier: Barrier, one: Place, other: Place) -> dict[str, Any]:
    """What is kept of a pair; infinity as text, which JSON has no number for."""
    losses = barrier.loss.tolist()
    return {
        "height": _number(barrier.height), "rise": _number(barrier.rise),
        "ends": [losses[0], losses[-1]], "resolution": barrier.resolution,
        "distance": (one.vector.double() - other.vector.double()).norm().item(),
        "t": barrier.t.tolist(), "loss": [_number(value) for value in losses],
        "evaluations": barrier.evaluations,
    }  # fmt: skip


def _number(value: float) -> float | str:
    return value if np.isfinite(value) else str(value)
