"""What a run of the suite found: rows, and the summary that a reader wants first."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from llc.diagnostics import Array
from llc.files import write_whole

__all__ = ["Row", "Validation", "row_from"]

APART = 0.05
MOST_Z = 4.0


@dataclass(frozen=True)
class Row:
    """One estimate beside its truth.

    Attributes:
        case: the truth's name.
        group: as `Case.group`.
        seed: of the chains.
        n_beta: nβ.
        gamma: γ.
        a: A = λ, or None.
        b: B, the exact expectation at these settings, or None.
        b_error: standard error of B, 0 where exact.
        c: C, the estimate; None where it was not measured.
        c_error: its standard error.
        verdict: ``ok``, ``warn`` or ``fail``.
        reasons: names of the verdict's reasons.
        gradients: gradient evaluations.
        seconds: wall time.
    """

    case: str
    group: str
    seed: int
    n_beta: float
    gamma: float
    a: float | None
    b: float | None
    b_error: float
    c: float | None
    c_error: float | None
    verdict: str
    reasons: tuple[str, ...]
    gradients: int
    seconds: float

    @property
    def reference(self) -> float | None:
        """B where it is known, else A."""
        return self.a if self.b is None else self.b

    @property
    def error(self) -> float:
        """(C − reference)/reference; nan where either is missing."""
        if self.c is None or self.reference is None:
            return math.nan
        return self.c / self.reference - 1

    @property
    def z(self) -> float:
        """(C − B) in standard errors; nan where B is not known."""
        if self.c is None or self.c_error is None or self.b is None:
            return math.nan
        return (self.c - self.b) / math.hypot(self.c_error, self.b_error)

    @property
    def missed(self) -> bool:
        """Whether the estimate is wrong: none at all, or B further than four standard errors."""
        return self.c is None or self.verdict == "fail" or abs(self.z) > MOST_Z


@dataclass(frozen=True)
class Validation:
    """All rows of one run of the suite.

    Attributes:
        tier: which suite.
        settings: what was given to every estimate.
        versions: of this package, torch and Python.
        rows: one per case and seed.
    """

    tier: str
    settings: dict[str, Any]
    versions: dict[str, str]
    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """Whether no row missed."""
        return not any(row.missed for row in self.rows)

    def group(self, *names: str) -> list[Row]:
        """Return the rows of some groups."""
        return [row for row in self.rows if row.group in names]

    def summary(self) -> dict[str, Any]:
        """Return the numbers under the table.

        Errors are absolute and relative, against B where it is known and against λ for teachers and
        polygons, where B − λ counts as error too. Coverage and z are those of estimates whose
        verdict is not fail: a failed one's interval is not offered as an answer. Two seeds agree
        where their difference lies within the interval that both errors together give it.
        """
        offered = [row for row in self.rows if row.verdict != "fail"]
        exact = [row for row in offered if row.b is not None and row.c is not None]
        z = np.array([abs(row.z) for row in exact])
        apart = _between_seeds(offered)
        shares = {
            f"{name}_{round(100 * p)}": _share(values <= NormalDist().inv_cdf(0.5 + p / 2))
            for name, values in (("coverage", z), ("seeds_agree", apart))
            for p in (0.5, 0.9)
        }
        return {
            "estimates": len(self.rows),
            "failed": sum(row.verdict == "fail" or row.c is None for row in self.rows),
            "warned": sum(row.verdict == "warn" for row in self.rows),
            "missed": sum(row.missed for row in self.rows),
            **_errors("closed_form", self.group("closed form")),
            **_errors("teacher", self.group("teacher")),
            **_errors("polygon", self.group("polygon")),
            **shares,
            "rms_z": float(np.sqrt(np.mean(z**2))) if len(z) else None,
            "largest_z": float(z.max()) if len(z) else None,
            "order_preserved": self._order(),
            "invariance": self._invariance(),
            "gradients": sum(row.gradients for row in self.rows),
            "seconds": sum(row.seconds for row in self.rows),
        }

    def _order(self) -> float | None:
        """Share of pairs, references 5 % apart or more, that estimates put in the same order."""
        known = [(r.reference, r.c) for r in self.rows if r.reference and r.c is not None]
        kept = [
            (a < b) == (x < y)
            for (a, x), (b, y) in combinations(known, 2)
            if abs(a - b) >= APART * max(a, b)
        ]
        return _share(np.array(kept))

    def _invariance(self) -> float | None:
        """Largest relative distance of a rescaled network's mean estimate from the plain one's."""
        means: dict[str, list[float]] = {}
        for row in self.group("invariance"):
            if row.c is not None:
                means.setdefault(row.case, []).append(row.c)
        values = [float(np.mean(v)) for v in means.values()]
        return max((abs(v / values[0] - 1) for v in values[1:]), default=None)

    def table(self) -> str:
        """Lay rows and summary out for reading."""
        width = max((len(row.case) for row in self.rows), default=4)
        head = (f"{'case':<{width}} seed        A        B        C   ±       error      z  verdict"
                "   gradients      s")  # fmt: skip
        lines = [head, *(_line(row, width) for row in self.rows), "", *self._sentences()]
        return "\n".join(lines)

    def _sentences(self) -> list[str]:
        s = self.summary()
        lines = [
            f"{s['estimates']} estimates: {s['failed']} failed, {s['warned']} with a warning, "
            f"{s['missed']} missed (failed, or B further than {MOST_Z:g} standard errors)"
        ]
        for name, words in (
            ("closed_form", "closed forms, |C − B|/B"),
            ("teacher", "teachers, |C − λ|/λ"),
            ("polygon", "superposition, |C − λ|/λ"),
        ):
            if s[f"{name}_median"] is not None:
                lines.append(f"{words}: median {s[f'{name}_median']:.1%}, 95th percentile "
                             f"{s[f'{name}_p95']:.1%}")  # fmt: skip
        if s["coverage_90"] is not None:
            lines.append(
                f"intervals, failed ones left out: 50 % hold B {s['coverage_50']:.0%}, 90 % hold "
                f"it {s['coverage_90']:.0%} of the time; rms z {s['rms_z']:.2f}, largest "
                f"{s['largest_z']:.1f}"
            )
        if s["seeds_agree_90"] is not None:
            lines.append(
                f"two seeds of one case: within the 50 % interval of their difference "
                f"{s['seeds_agree_50']:.0%}, within the 90 % one {s['seeds_agree_90']:.0%}"
            )
        if s["order_preserved"] is not None:
            lines.append(f"order: {s['order_preserved']:.1%} of pairs {APART:.0%} apart kept")
        if s["invariance"] is not None:
            lines.append(f"rescaled and permuted networks: within {s['invariance']:.1%}")
        lines.append(f"cost: {s['gradients']:,} gradients, {s['seconds']:.0f} s of estimation")
        lines.append("passed" if self.passed else "NOT passed")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        rows = [asdict(row) | {"error": _known(row.error), "z": _known(row.z)} for row in self.rows]
        return {
            "tier": self.tier,
            "settings": self.settings,
            "versions": self.versions,
            "summary": self.summary(),
            "passed": self.passed,
            "rows": rows,
        }

    def save(self, path: str | Path) -> None:
        """Write everything as JSON."""
        write_whole(Path(path), json.dumps(self.to_dict(), indent=1, allow_nan=False).encode())


def _between_seeds(rows: list[Row]) -> Array:
    """|C − C'| in units of its own standard error, for every two seeds of one case."""
    by_case: dict[tuple[str, float, float], list[tuple[float, float]]] = {}
    for row in rows:
        if row.c is not None and row.c_error is not None:
            key = row.case, row.n_beta, row.gamma
            by_case.setdefault(key, []).append((row.c, row.c_error))
    return np.array(
        [
            abs(a - b) / math.hypot(x, y)
            for values in by_case.values()
            for (a, x), (b, y) in combinations(values, 2)
        ]
    )


def row_from(record: dict[str, Any]) -> Row:
    """Rebuild a row from its record."""
    names = [f.name for f in fields(Row)]
    return Row(**{name: record[name] for name in names} | {"reasons": tuple(record["reasons"])})


def _line(row: Row, width: int) -> str:
    def number(value: float | None, form: str) -> str:
        missing = value is None or math.isnan(value)
        length = int(form.lstrip("+,").split(".")[0])
        return f"{'—':>{length}}" if missing else f"{value:>{form}}"

    error = "—" if math.isnan(row.error) else f"{row.error:+.1%}"
    against = "" if row.b is not None or row.a is None else " (λ)"
    return (
        f"{row.case:<{width}} {row.seed:>4}{number(row.a, '9.3f')}{number(row.b, '9.3f')}"
        f"{number(row.c, '9.3f')}{number(row.c_error, '8.3f')}{error:>8}{against:<4}"
        f"{number(row.z, '6.1f')}  {row.verdict:<7}{row.gradients:>11,}{row.seconds:>7.1f}"
    )


def _errors(name: str, rows: Sequence[Row]) -> dict[str, float | None]:
    found = np.array([abs(row.error) for row in rows if not math.isnan(row.error)])
    if not len(found):
        return {f"{name}_median": None, f"{name}_p95": None, f"{name}_bias": None}
    signed = np.array([row.error for row in rows if not math.isnan(row.error)])
    return {
        f"{name}_median": float(np.median(found)),
        f"{name}_p95": float(np.percentile(found, 95)),
        f"{name}_bias": float(signed.mean()),
    }


def _share(flags: Any) -> float | None:
    return float(np.mean(flags)) if len(flags) else None


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
