"""The result: a trajectory for every part of a network, and the matrix of them all."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llc.diagnostics import Array
from llc.errors import InputError
from llc.files import read_json, write_whole
from llc.settings import Settings
from llc.trajectory import Trajectory

__all__ = ["FILE", "Refined"]

FILE = "refined.json"
COLUMNS = ("llc", "mcse", "null", "null_se", "saturation", "virial", "rhat", "ess")


@dataclass(frozen=True)
class Refined:
    """Weight-refined LLCs over training, at one nβ and one γ.

    λ̂(V) = nβ(E[L(w)] − L(w*)) with only the weights V moving, the rest at w* (Wang, Hoogland,
    van Wingerden, Furman & Murfet 2024, arXiv 2410.02984).

    Attributes:
        name: of the task.
        trajectories: part → its trajectory, in the order asked for.
    """

    name: str
    trajectories: Mapping[str, Trajectory]

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts: the rows of `grid`."""
        return tuple(self.trajectories)

    @property
    def settings(self) -> Settings:
        """Settings of the first part; the others' differ in ``only``, and in what follows it."""
        return next(iter(self.trajectories.values())).settings

    @property
    def steps(self) -> Array:
        """Every training step at which a part was estimated: the columns of `grid`."""
        found = {point.step for each in self.trajectories.values() for point in each.points}
        return np.array(sorted(found), dtype=float)

    @property
    def dimensions(self) -> Array:
        """Number of sampled weights of each part, shape ``(parts,)``."""
        return np.array([t.points[0].estimate.dimension for t in self.trajectories.values()])

    def grid(self, column: str = "llc", *, failed: bool = True) -> Array:
        """Return a column of the trajectories by part and step, ``(parts, steps)``.

        Args:
            column: ``"llc"``, ``"mcse"``, ``"null"``, ``"saturation"`` or another of
                `Trajectory.column`.
            failed: keep estimates whose verdict is fail; they are nan otherwise, as are missing
                ones.
        """
        places = {step: k for k, step in enumerate(self.steps)}
        found = np.full((len(self.parts), len(places)), np.nan)
        for row, trajectory in enumerate(self.trajectories.values()):
            for point, value in zip(trajectory.points, trajectory.column(column), strict=True):
                if failed or point.estimate.verdict.status != "fail":
                    found[row, places[float(point.step)]] = value
        return found

    @classmethod
    def load(cls, folder: str | Path) -> "Refined":
        """Read a folder as `llc.refine` or ``rlct refine`` wrote it, or as far as it has got.

        Raises:
            InputError: no such folder, nothing of that kind in it, or nothing finished.
        """
        folder = Path(folder)
        try:
            record = read_json(folder / FILE)
            name = str(record["task"])
            places = {str(part): folder / place for part, place in record["folders"].items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(
                f"{folder} holds no {FILE} that can be read, expected a folder that rlct refine "
                "wrote"
            ) from error
        found: dict[str, Trajectory] = {}
        for part, place in places.items():
            if any((place / "estimates").glob("*.fingerprint")):
                found[part] = Trajectory.load(place)
        if not found:
            raise InputError(
                f"{folder} holds no finished estimate yet: run the same rlct refine to its end"
            )
        return cls(name, found)

    def to_csv(self, path: str | Path) -> Path:
        """Write one row a part and checkpoint: part, dimension, step, estimate, verdict."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["part", "dimension", "step", *COLUMNS, "verdict", "reasons"])
        for part, trajectory in self.trajectories.items():
            for point in trajectory.points:
                estimate = point.estimate
                values = [f"{getattr(estimate, name):.8g}" for name in COLUMNS]
                reasons = " ".join(reason.name for reason in estimate.verdict.reasons)
                row = [part, estimate.dimension, point.step, *values]
                writer.writerow([*row, estimate.verdict.status, reasons])
        path = Path(path)
        write_whole(path, buffer.getvalue().encode())
        return path

    def table(self) -> str:
        """Lay the LLCs out for reading: a row a part, a column a step; ``!`` marks a fail."""
        steps, values, errors = self.steps, self.grid(), self.grid("mcse")
        sound = np.isfinite(self.grid(failed=False))
        heads = ["part", "weights", *(f"{step:,.0f}" for step in steps)]
        rows = [heads]
        for k, part in enumerate(self.parts):
            cells = [
                "" if np.isnan(value) else f"{value:.4g} ± {error:.2g}{'' if good else ' !'}"
                for value, error, good in zip(values[k], errors[k], sound[k], strict=True)
            ]
            rows.append([part, f"{self.dimensions[k]:,}", *cells])
        widths = [max(len(row[k]) for row in rows) for k in range(len(heads))]
        return "\n".join(
            "  ".join(f"{cell:<{width}}" if k == 0 else f"{cell:>{width}}"
                      for k, (cell, width) in enumerate(zip(row, widths, strict=True)))
            for row in rows
        )  # fmt: skip

    def __str__(self) -> str:
        return f"{self.name}: refined LLCs of {len(self.parts)} parts\n{self.table()}"
