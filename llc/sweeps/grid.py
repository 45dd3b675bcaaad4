"""The cells of a sweep, and the grid that they make."""

import csv
import io
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from llc.diagnostics import Array
from llc.errors import InputError, brief
from llc.estimation.estimate import rounded
from llc.files import read_json, write_whole
from llc.settings import Settings

__all__ = ["AXES", "Cell", "Sweep", "cell_from_json", "cell_to_json"]

AXES = ("step_size", "gamma", "n_beta")
KINDS = ("ok", "warn", "fail", "negative", "diverged")


@dataclass(frozen=True)
class Cell:
    """One short run.

    Attributes:
        step_size: ε, or h of the samplers with momentum.
        gamma: γ.
        n_beta: nβ.
        llc: λ̂ over the chains that stayed; nan if none did.
        mcse: its Monte-Carlo standard error.
        status: of its verdict, ``"ok"``, ``"warn"`` or ``"fail"``.
        reasons: names of the verdict's reasons, gravest first.
        sentences: the same in words.
        diverged: chains that left for infinity.
        chains: of how many.
        virial: 1 in equilibrium.
        gradient_evaluations: all chains together.
        seconds: wall time.
    """

    step_size: float
    gamma: float
    n_beta: float
    llc: float
    mcse: float
    status: str
    reasons: tuple[str, ...]
    sentences: tuple[str, ...]
    diverged: int
    chains: int
    virial: float
    gradient_evaluations: int
    seconds: float

    @property
    def kind(self) -> str:
        """What to see it as: the verdict's status, or graver, ``"negative"``, ``"diverged"``."""
        if self.diverged:
            return "diverged"
        return "negative" if self.llc < 0 else self.status

    def __str__(self) -> str:
        if math.isnan(self.llc):
            return f"all {self.chains} chains diverged"
        number, error = rounded(self.llc, self.mcse)
        lost = f", {self.diverged} of {self.chains} chains diverged" if self.diverged else ""
        return f"{number} ± {error} {self.status}{lost}"


@dataclass(frozen=True)
class Sweep:
    """A grid of short runs.

    Attributes:
        name: of the task.
        settings: what all cells share; its step size, γ and nβ are the chosen ones, None where
            nothing was chosen since all three axes were given.
        step_sizes: the grid's step sizes, ascending.
        gammas: its γ, ascending.
        n_betas: its nβ, ascending.
        cells: all of them, nβ outermost, γ innermost.
        reused: how many were found finished in the folder.
    """

    name: str
    settings: Settings
    step_sizes: tuple[float, ...]
    gammas: tuple[float, ...]
    n_betas: tuple[float, ...]
    cells: tuple[Cell, ...]
    reused: int = 0

    def column(self, name: str) -> Array:
        """Return a number of all cells, shape ``(n_betas, step_sizes, gammas)``.

        Raises:
            InputError: cells have no such number.
        """
        numbers = [f.name for f in fields(Cell) if f.type in (int, float)]
        if name not in numbers:
            raise InputError(f"column is {name!r}, expected one of {', '.join(numbers)}")
        values = np.array([getattr(cell, name) for cell in self.cells], dtype=float)
        return values.reshape(len(self.n_betas), len(self.step_sizes), len(self.gammas))

    def cell(self, n_beta: int, step_size: int, gamma: int) -> Cell:
        """Return the cell of three positions along the axes."""
        return self.cells[(n_beta * len(self.step_sizes) + step_size) * len(self.gammas) + gamma]

    def is_chosen(self, cell: Cell) -> bool:
        """Whether a cell has the chosen step size, γ and nβ."""
        pairs = [(getattr(cell, name), getattr(self.settings, name)) for name in AXES]
        return all(b is not None and math.isclose(a, b, rel_tol=1e-6) for a, b in pairs)

    @property
    def counts(self) -> dict[str, int]:
        """Cells of each kind; see `Cell.kind`."""
        return {kind: sum(cell.kind == kind for cell in self.cells) for kind in KINDS}

    @property
    def gradient_evaluations(self) -> int:
        """Of all cells together."""
        return sum(cell.gradient_evaluations for cell in self.cells)

    def table(self) -> str:
        """Lay all cells out for reading; the chosen one has an arrow."""
        lines = []
        for cell in self.cells:
            mark = "→" if self.is_chosen(cell) else " "
            reasons = f"  {' '.join(cell.reasons)}" if cell.reasons else ""
            lines.append(
                f"{mark} n_beta {cell.n_beta:<9.4g} step_size {cell.step_size:<9.3g} "
                f"gamma {cell.gamma:<9.3g} LLC {cell}{reasons}"
            )
        return "\n".join([*lines, self._summary()])

    def _summary(self) -> str:
        counts = ", ".join(f"{count} {kind}" for kind, count in self.counts.items() if count)
        return (
            f"{self.name}: {len(self.cells)} cells with sampler {self.settings.sampler} "
            f"({counts}), {self.gradient_evaluations:,} gradients"
        )

    def __str__(self) -> str:
        return self.table()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values; nan becomes None."""
        return {
            "name": self.name,
            "settings": self.settings.to_dict(),
            **{f"{axis}s": list(getattr(self, f"{axis}s")) for axis in AXES},
            "cells": [cell_to_json(cell) for cell in self.cells],
        }

    def save(self, path: str | Path) -> Path:
        """Write JSON, whole or not at all; `load` reads it back."""
        path = Path(path)
        write_whole(path, json.dumps(self.to_dict(), indent=1, allow_nan=False).encode())
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Sweep":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing or is no saved sweep.
        """
        try:
            record = read_json(Path(path))
            steps, gammas, sizes = (tuple(record[f"{axis}s"]) for axis in AXES)
            cells = tuple(cell_from_json(cell) for cell in record["cells"])
            return cls(
                record["name"], Settings.from_dict(record["settings"]), steps, gammas, sizes, cells
            )
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise InputError(f"{path} is not a saved sweep: {brief(repr(error))}") from error

    def to_csv(self, path: str | Path) -> Path:
        """Write one row a cell."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        names = [f.name for f in fields(Cell) if f.name != "sentences"]
        writer.writerow([*names, "kind", "chosen"])
        for cell in self.cells:
            values = [getattr(cell, name) for name in names]
            values = [" ".join(v) if isinstance(v, tuple) else v for v in values]
            writer.writerow([*values, cell.kind, int(self.is_chosen(cell))])
        path = Path(path)
        write_whole(path, buffer.getvalue().encode())
        return path


def cell_to_json(cell: Cell) -> dict[str, Any]:
    """Return a cell as JSON-able values; nan becomes None."""
    values: dict[str, Any] = asdict(cell)
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            values[name] = None
    return values


def cell_from_json(values: dict[str, Any]) -> Cell:
    """Read what `cell_to_json` returned."""
    read = {f.name: values[f.name] for f in fields(Cell)}
    for f in fields(Cell):
        if f.type is float:
            read[f.name] = math.nan if read[f.name] is None else float(read[f.name])
    read["reasons"], read["sentences"] = tuple(read["reasons"]), tuple(read["sentences"])
    return Cell(**read)
