"""The result: an estimate for each γ, and the plateaus that are what λ means."""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from llc.diagnostics import Array
from llc.errors import InputError, brief
from llc.estimation.estimate import Estimate, rounded
from llc.files import read_json, write_whole

__all__ = ["FLAT", "Plateau", "ScaleCurve"]

FLAT = 0.03
MOST_SATURATION = 0.5


@dataclass(frozen=True)
class Plateau:
    """A run of γ over which λ̂ does not depend on it.

    Attributes:
        gamma_high: largest γ of the run.
        gamma_low: smallest γ of the run.
        llc: mean of λ̂ over it, weighted by 1/mcse².
        mcse: its standard error, enlarged by √(χ²/dof) where the points scatter more than theirs.
        lowest: smallest λ̂ of the run.
        highest: largest λ̂ of the run.
        count: number of points.
    """

    gamma_high: float
    gamma_low: float
    llc: float
    mcse: float
    lowest: float
    highest: float
    count: int

    def __str__(self) -> str:
        number, error = rounded(self.llc, self.mcse)
        return (
            f"LLC {number} ± {error} over γ = {self.gamma_high:.3g} … {self.gamma_low:.3g} "
            f"({self.count} points from {self.lowest:.4g} to {self.highest:.4g})"
        )


@dataclass(frozen=True)
class ScaleCurve:
    """Effective dimension λ̂ against γ, at one nβ.

    Attributes:
        name: of the task.
        asked: every γ that was asked for, largest first.
        points: an estimate for each γ that was reached, in that order.
        stopped: why not all were reached, or nothing more below the last; empty where all were.
        local_rise: rise of the loss up to which chains count as local, or None where unknown.
        n_eff_half: N_eff(γ/nβ)/2 for each point, or None: what a quadratic with the curvatures at
            w* would give.
        seconds: wall time.
    """

    name: str
    asked: tuple[float, ...]
    points: tuple[Estimate, ...]
    stopped: str
    local_rise: float | None = None
    n_eff_half: tuple[float, ...] | None = None
    seconds: float = 0.0

    @property
    def gamma(self) -> Array:
        """γ of the points, shape ``(points,)``."""
        return np.array([p.settings.gamma for p in self.points], dtype=float)

    @property
    def n_beta(self) -> float:
        """nβ."""
        return float(self.points[0].settings.n_beta or math.nan)

    @property
    def llc(self) -> Array:
        """λ̂ of the points, shape ``(points,)``."""
        return self.column("llc")

    @property
    def rise(self) -> Array:
        """E[L] − L(w*) in units of the loss, shape ``(points,)``."""
        return self.column("sampled_loss") - self.column("baseline")

    @property
    def rise_to_chance(self) -> Array:
        """How far towards the loss of a blind guess the loss rose; nan where that is not known."""
        room = self.column("chance") - self.column("baseline")
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(room > 0, self.rise / room, np.nan)

    @property
    def gradient_evaluations(self) -> int:
        """Of all points and chains together."""
        return sum(p.gradient_evaluations for p in self.points)

    def column(self, name: str) -> Array:
        """Return one number of every point's `Estimate` by name, shape ``(points,)``; None is nan.

        Raises:
            InputError: estimates have no number of that name.
        """
        fields = [f.name for f in dataclasses.fields(Estimate)]
        values = [getattr(p, name) for p in self.points] if name in fields else [name]
        if not all(v is None or isinstance(v, int | float) for v in values):
            raise InputError(f"{name!r} is no number of an estimate, as llc, mcse or virial are")
        return np.array([math.nan if v is None else v for v in values], dtype=float)

    def interval(self, probability: float = 0.9) -> tuple[Array, Array]:
        """Return the ends of central intervals around λ̂, each of shape ``(points,)``.

        Raises:
            InputError: the probability is not inside (0, 1).
        """
        if not 0 < probability < 1:
            raise InputError(f"probability is {probability}, expected a number between 0 and 1")
        half = NormalDist().inv_cdf(0.5 + probability / 2) * self.column("mcse")
        return self.llc - half, self.llc + half

    @property
    def plateaus(self) -> tuple[Plateau, ...]:
        """Runs of neighbouring points over which λ̂ changes by less than 3 % an e-fold of γ.

        Each pair's change is measured twice, by the difference of its λ̂ and by the mean of its
        free slopes; the weighted mean of both may exceed 3 % of λ̂ by one standard error, and the
        difference by two of its own. Pairs join into runs, and the straight line through a run may
        not exceed 3 % at all, nor its slope's standard error 1.5 %: a run too noisy to tell is no
        plateau. Nor do points belong to one whose verdict failed, whose λ̂ is mostly prior, or
        whose chains are not local.
        """
        runs: list[list[int]] = []
        for i in range(len(self.points) - 1):
            if not (self.is_sound(i) and self.is_sound(i + 1) and self._is_flat(i)):
                continue
            if runs and runs[-1][-1] == i:
                runs[-1].append(i + 1)
            else:
                runs.append([i, i + 1])
        return tuple(self._plateau(run) for run in runs if self._is_level(run))

    def is_sound(self, index: int) -> bool:
        """Whether a point can stand for the loss near w*: measured, local, and not mostly prior."""
        point = self.points[index]
        local = self.local_rise is None or self.rise[index] <= self.local_rise
        failed = point.verdict.status == "fail" or not math.isfinite(point.llc)
        return local and not failed and not point.saturation > MOST_SATURATION

    def _is_flat(self, index: int) -> bool:
        above, below = self.points[index], self.points[index + 1]
        span = math.log(self.gamma[index] / self.gamma[index + 1])
        allowed = FLAT * abs(above.llc + below.llc) / 2
        difference = (above.llc - below.llc) / span
        error = math.hypot(above.mcse, below.mcse) / span
        if abs(difference) > allowed + 2 * error:
            return False
        slope = (above.slope_gamma + below.slope_gamma) / 2
        slope_error = math.hypot(above.slope_gamma_se, below.slope_gamma_se) / 2
        if slope_error > 0 and error > 0:
            share = error**2 / (error**2 + slope_error**2)
            difference += share * (slope - difference)
            error *= math.sqrt(1 - share)
        return error <= allowed and abs(difference) <= allowed + error

    def _is_level(self, run: list[int]) -> bool:
        """Whether a run's weighted straight line in ln γ is flat, and known to be."""
        values, errors, x = self.llc[run], self.column("mcse")[run], np.log(self.gamma[run])
        weights = 1 / np.maximum(errors, 1e-9 * abs(values)) ** 2
        x = x - (weights * x).sum() / weights.sum()
        known = (weights * x * x).sum()
        slope = (weights * x * values).sum() / known
        allowed = FLAT * abs(values.mean())
        return bool(abs(slope) <= allowed and known**-0.5 <= allowed / 2)

    def _plateau(self, run: list[int]) -> Plateau:
        values, errors = self.llc[run], self.column("mcse")[run]
        weights = 1 / np.maximum(errors, 1e-9 * abs(values)) ** 2
        mean = float((weights * values).sum() / weights.sum())
        scatter = float((weights * (values - mean) ** 2).sum() / (len(run) - 1))
        return Plateau(
            gamma_high=float(self.gamma[run[0]]),
            gamma_low=float(self.gamma[run[-1]]),
            llc=mean,
            mcse=float(weights.sum() ** -0.5) * max(1.0, scatter**0.5),
            lowest=float(values.min()),
            highest=float(values.max()),
            count=len(run),
        )

    def with_n_eff(self, n_eff: Callable[[float], float]) -> "ScaleCurve":
        """Return the curve with N_eff(γ/nβ)/2 beside it.

        Args:
            n_eff: α → Σ h_i/(h_i + α), h_i the curvatures of L at w*.
        """
        half = tuple(float(n_eff(float(gamma) / self.n_beta)) / 2 for gamma in self.gamma)
        return dataclasses.replace(self, n_eff_half=half)

    def table(self) -> str:
        """Lay the curve out for reading."""
        share = not np.isnan(self.rise_to_chance).all()
        head = (
            f"{'gamma':>9} {'LLC':>9} {'±':<7} {'virial':>6} {'R-hat':>6} {'ESS':>6} "
            f"{'satur.':>6} {'dist.':>5} {'loss rise':>9} {'to chance' * share:>{9 * share}} "
            f"{'dLLC/dlnγ':>11} {'±':<6} {'dLLC/dlnnβ':>11} {'±':<6} {'gradients':>9}  verdict"
        )
        if self.n_eff_half is not None:
            head = head.replace("  verdict", "  N_eff/2  verdict")
        lines = [head, *(self._line(i, share) for i in range(len(self.points)))]
        lines += ["", *(f"plateau: {plateau}" for plateau in self.plateaus)]
        if not self.plateaus:
            lines.append(
                f"no plateau: between no two sound points does λ̂ provably change by less than "
                f"{FLAT:.0%} an e-fold of γ; each number is an effective dimension at its γ"
            )
        if self.stopped:
            lines.append(f"stopped: {self.stopped}")
        lines.append(
            f"n_beta {self.n_beta:.6g}, {self.points[0].dimension:,} parameters, "
            f"{self.gradient_evaluations:,} gradients, {self.seconds:.1f} s"
        )
        for point in self.points:
            lines += [
                f"  ! γ = {point.settings.gamma:.3g}: {sentence}"
                for sentence in point.verdict.sentences
            ]
        return "\n".join(lines)

    def _line(self, index: int, share: bool) -> str:
        p = self.points[index]
        number, error = rounded(p.llc, p.mcse)
        slope, slope_error = rounded(p.slope_gamma, p.slope_gamma_se)
        other, other_error = rounded(p.slope_n_beta, p.slope_n_beta_se)
        to_chance = f"{self.rise_to_chance[index]:>9.1%}" if share else ""
        n_eff = "" if self.n_eff_half is None else f"{self.n_eff_half[index]:>8.4g}"
        return (
            f"{self.gamma[index]:>9.4g} {number:>9} {error:<7} {p.virial:>6.3f} {p.rhat:>6.3f} "
            f"{p.ess:>6.0f} {p.saturation:>6.3f} {p.distance:>5.2f} {self.rise[index]:>9.3g} "
            f"{to_chance} {slope:>11} {slope_error:<6} {other:>11} {other_error:<6} "
            f"{p.gradient_evaluations:>9,} {n_eff} {p.verdict}"
        )

    def __str__(self) -> str:
        return self.table()

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the points' traces as JSON-able values; nan becomes None."""
        return {
            "name": self.name,
            "n_beta": self.n_beta,
            "asked": list(self.asked),
            "points": [p.to_dict() for p in self.points],
            "plateaus": [dataclasses.asdict(plateau) for plateau in self.plateaus],
            "stopped": self.stopped,
            "local_rise": self.local_rise,
            "n_eff_half": None if self.n_eff_half is None else list(self.n_eff_half),
            "gradient_evaluations": self.gradient_evaluations,
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ScaleCurve":
        """Rebuild what `to_dict` returned; the points' traces have no draws."""
        half = values["n_eff_half"]
        return cls(
            values["name"],
            tuple(values["asked"]),
            tuple(Estimate.from_dict(point) for point in values["points"]),
            values["stopped"],
            values["local_rise"],
            None if half is None else tuple(half),
            values["seconds"],
        )

    def save(self, path: str | Path) -> Path:
        """Write the curve as JSON; `load` reads it back, but for the points' traces."""
        path = Path(path).with_suffix(".json")
        write_whole(path, json.dumps(self.to_dict(), indent=1, allow_nan=False).encode())
        return path

    @classmethod
    def load(cls, path: str | Path) -> "ScaleCurve":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing or is no saved curve.
        """
        path = Path(path).with_suffix(".json")
        try:
            return cls.from_dict(read_json(path))
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise InputError(f"{path} is not a saved scale curve: {brief(repr(error))}") from error
