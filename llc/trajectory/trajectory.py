"""The result of tracing a run: one estimate a checkpoint, with what was saved beside it."""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from llc.diagnostics import Array
from llc.errors import InputError
from llc.estimation import Estimate
from llc.files import write_whole
from llc.settings import Settings
from llc.trajectory.columns import COLUMNS, NUMBERS, kept_apart
from llc.trajectory.store import RunFolder

__all__ = ["Point", "Trajectory"]

FIELDS = {f.name for f in fields(Estimate)}


@dataclass(frozen=True)
class Point:
    """One checkpoint of a trajectory.

    Attributes:
        step: training step.
        estimate: its LLC.
        metadata: numbers saved beside the weights, and readings; a name of ours, such as ``llc`` or
            ``gamma``, has ``saved_`` before it.
    """

    step: int
    estimate: Estimate
    metadata: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metadata", kept_apart(self.metadata))


@dataclass(frozen=True)
class Trajectory:
    """Estimates in the order of training steps.

    Attributes:
        name: of the task.
        settings: shared by all checkpoints: one nβ, one γ, one seed.
        points: one a checkpoint, by step.
        skipped: step → sentence, for checkpoints that could not be estimated at all.
    """

    name: str
    settings: Settings
    points: tuple[Point, ...]
    skipped: Mapping[int, str] = field(default_factory=dict)

    @property
    def steps(self) -> Array:
        """Training steps, shape ``(points,)``."""
        return np.array([point.step for point in self.points], dtype=float)

    @property
    def llc(self) -> Array:
        """LLC at each step, shape ``(points,)``."""
        return self.column("llc")

    @property
    def mcse(self) -> Array:
        """Monte-Carlo standard error at each step, shape ``(points,)``."""
        return self.column("mcse")

    def column(self, name: str) -> Array:
        """Return a number of each estimate, or saved beside each checkpoint; nan where absent.

        A name of an estimate's is always the estimate's: what a checkpoint saved by that name is
        ``saved_NAME``.

        Raises:
            InputError: a field of an estimate that is no number, as its verdict.
        """
        if name in FIELDS and name not in NUMBERS:
            raise InputError(
                f"{name} of an estimate is no number, so there is no column of it: take "
                f"[point.estimate.{name} for point in trajectory.points]"
            )
        own = name in NUMBERS
        values = [getattr(p.estimate, name) if own else p.metadata.get(name) for p in self.points]
        return np.array([math.nan if value is None else value for value in values], dtype=float)

    @property
    def metadata_names(self) -> list[str]:
        """Names of the numbers saved beside the weights, in the order first seen."""
        return list(dict.fromkeys(name for point in self.points for name in point.metadata))

    def interval(self, probability: float = 0.9) -> tuple[Array, Array]:
        """Return lower and upper ends of each estimate's interval."""
        ends = [point.estimate.interval(probability) for point in self.points]
        low, high = zip(*ends, strict=True)
        return np.array(low), np.array(high)

    @classmethod
    def load(cls, folder: str | Path) -> "Trajectory":
        """Read a run folder as `llc.trace` wrote it, or as far as it has got.

        Args:
            folder: with ``run.json`` and ``estimates/``.

        Returns:
            The trajectory: what is finished as points, by step, with the metadata kept beside it.

        Raises:
            InputError: no such folder, no run in it, nothing finished yet, or a file that cannot be
                read.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder, expected one that rlct trace wrote")
        kept = RunFolder(folder)
        record = kept.record()
        if record is None:
            raise InputError(f"{folder} holds no run.json, expected a folder that rlct trace wrote")
        steps = record["steps"]
        points = tuple(
            Point(step, found.estimate, found.metadata) for step, found in kept.points(steps)
        )
        if not points:
            raise InputError(
                f"{folder} holds no finished estimate yet: run the same rlct trace to its end"
            )
        settings = Settings.from_dict(record["settings"])
        return cls(record["task"], settings, points, kept.skipped(steps))

    def to_csv(self, path: str | Path) -> Path:
        """Write one row a checkpoint: step, estimate, verdict, metadata."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        names = self.metadata_names
        writer.writerow(["step", *COLUMNS, "verdict", "reasons", *names])
        for point in self.points:
            values = [getattr(point.estimate, name) for name in COLUMNS]
            verdict = point.estimate.verdict
            extra = [point.metadata.get(name, math.nan) for name in names]
            writer.writerow(
                [
                    point.step,
                    *(f"{value:.8g}" for value in values),
                    verdict.status,
                    " ".join(reason.name for reason in verdict.reasons),
                    *(f"{value:.8g}" for value in extra),
                ]
            )
        path = Path(path)
        write_whole(path, buffer.getvalue().encode())
        return path

    def __str__(self) -> str:
        lines = [f"{self.name}: {len(self.points)} checkpoints"]
        lines += [f"step {point.step}: {point.estimate}" for point in self.points]
        lines += [f"step {step}: skipped ({why})" for step, why in self.skipped.items()]
        return "\n".join(lines)
