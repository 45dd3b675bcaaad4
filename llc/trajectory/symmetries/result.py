"""What checking symmetries found: a table in plain words, saved and loaded whole."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import NormalDist
from typing import Any

from llc.errors import InputError, brief
from llc.estimation.estimate import rounded
from llc.files import read_json, write_whole
from llc.trajectory.symmetries.count import Directions

__all__ = ["Invariance", "SymmetryCheck"]

LEVEL = 0.01


@dataclass(frozen=True)
class Invariance:
    """One kind of move of one symmetry, at random, and what it changed.

    Attributes:
        symmetry: its name.
        part: permutation, signs, rescaling, rotation, gauge or shift.
        preserves: what it should leave as it is, ``"outputs"`` or ``"loss"``.
        isometry: whether the localised posterior moves along as a whole, so that λ̂ has the same
            expectation at any γ. Otherwise the prior meets the loss at another angle.
        discrete: number of moves where finite, else 1.
        dimension: of the group of moves.
        stretch: ln of the largest factor by which the move stretches or shrinks a displacement.
        outputs_change: largest change of an output relative to the largest output; nan where the
            task has none.
        loss_change: change of the mean loss, relative to the loss of a blind guess (to 1 where
            that is not known).
        tolerance: largest relative change that counts as rounding.
        llc: λ̂ after the move; nan where it was not estimated.
        mcse: its standard error.
        status: of its verdict; empty where it was not estimated.
        z: (after − before)/√(mcse² + mcse²), of independent noise.
        price: what the move's stretch may change λ̂ by at this γ, ``|dλ̂/d ln γ|``·2·stretch to first
            order; 0 for an isometry.
    """

    symmetry: str
    part: str
    preserves: str
    isometry: bool
    discrete: int
    dimension: int
    stretch: float
    outputs_change: float
    loss_change: float
    tolerance: float
    llc: float = math.nan
    mcse: float = math.nan
    status: str = ""
    z: float = math.nan
    price: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether outputs (where they should) and loss stayed as they were, but for rounding."""
        changes = [self.loss_change]
        if self.preserves == "outputs" and not math.isnan(self.outputs_change):
            changes.append(self.outputs_change)
        return all(change <= self.tolerance for change in changes)

    @property
    def broken(self) -> str:
        """One sentence about what is wrong with the declaration; empty where it holds."""
        if self.holds:
            return ""
        what, change = "the loss", self.loss_change
        if self.preserves == "outputs" and self.outputs_change > self.tolerance:
            what, change = "the outputs", self.outputs_change
        return (
            f"{self.symmetry}: {self.part} changes {what} by {change:.2g}, where rounding is "
            f"{self.tolerance:.0e}, so it is no symmetry of this model as declared: check that all "
            "tensors that write to the units and all that read them are named with their axes, and "
            "that the activation allows it"
        )


@dataclass(frozen=True)
class SymmetryCheck:
    """Known symmetries held against outputs, loss, λ̂ and flat directions.

    Attributes:
        name: of the task.
        rows: one for each kind of move.
        strength: of the continuous moves.
        llc: λ̂ before any move; nan where it was not estimated.
        mcse: its standard error.
        status: of its verdict; empty where it was not estimated.
        slope_gamma: dλ̂/d ln γ there.
        slope_gamma_se: its standard error.
        n_beta: of the estimates.
        gamma: of the estimates.
        directions: dimensions, or None where they were not counted.
        seconds: wall time.
    """

    name: str
    rows: tuple[Invariance, ...]
    strength: float
    llc: float = math.nan
    mcse: float = math.nan
    status: str = ""
    slope_gamma: float = math.nan
    slope_gamma_se: float = math.nan
    n_beta: float = math.nan
    gamma: float = math.nan
    directions: Directions | None = None
    seconds: float = 0.0

    @property
    def most_z(self) -> float:
        """|z| that all rows together exceed by chance once in a hundred checks."""
        sampled = sum(1 for row in self.rows if row.status) or 1
        return NormalDist().inv_cdf(1 - LEVEL / 2 / sampled)

    def says(self, row: Invariance) -> str:
        """Say of one row in a word or two what became of it."""
        if not row.holds:
            return "broken"
        if not row.status:
            return "holds"
        if "fail" in (row.status, self.status):
            return "holds; λ̂ not sound"
        if abs(row.z) <= self.most_z:
            return "same λ̂"
        if row.isometry:
            return "λ̂ differs"
        over = abs(row.llc - self.llc) - row.price
        within = over <= self.most_z * math.hypot(row.mcse, self.mcse)
        return "λ̂ moved, as γ allows" if within else "λ̂ moved, beyond γ's first order"

    @property
    def passed(self) -> bool:
        """Whether every declaration holds and no isometry changed λ̂ beyond its error."""
        return not any(self.says(row) in ("broken", "λ̂ differs") for row in self.rows)

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """Lay the check out for reading."""
        sampled = not math.isnan(self.llc)
        lines = [f"symmetries of {self.name}, continuous moves of strength {self.strength:.3g}"]
        if sampled:
            number, error = rounded(self.llc, self.mcse)
            slope, slope_error = rounded(self.slope_gamma, self.slope_gamma_se)
            lines.append(
                f"LLC before {number} ± {error} ({self.status}; n_beta {self.n_beta:.5g}, gamma "
                f"{self.gamma:.4g}, dLLC/dlnγ {slope} ± {slope_error})"
            )
        cells = [("symmetry", "part", "moves", "outputs", "loss", "LLC after", "z", "γ may", "")]
        cells += [self._cells(row) for row in self.rows]
        if not sampled:
            cells = [(*row[:5], row[-1]) for row in cells]
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        lines += [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in cells
        ]
        lines += [f"  ! {row.broken}" for row in self.rows if not row.holds]
        lines += self._words() if sampled else []
        if self.directions is not None:
            lines += ["", str(self.directions)]
        return "\n".join(lines)

    def _words(self) -> list[str]:
        found = []
        if any(row.isometry for row in self.rows):
            found.append(
                "Permutations, signs, rotations and plain shifts keep distances: λ̂ has the same "
                f"expectation at any γ, and |z| stays below {self.most_z:.2f} in 99 of 100 checks."
            )
        if any(not row.isometry for row in self.rows):
            found.append(
                "Rescalings, gauges and shifts through a weight do not: λ is the same, λ̂ at this γ "
                "need not be; 'γ may' is |dLLC/dlnγ| times the change of ln γ the move amounts to."
            )
        return ["", *found]

    def _cells(self, row: Invariance) -> tuple[str, ...]:
        counted = f"{row.dimension}-dim." if row.discrete == 1 else _count(row.discrete)
        number, error = rounded(row.llc, row.mcse)
        outputs = "–" if math.isnan(row.outputs_change) else f"{row.outputs_change:.0e}"
        measured = (f"{number} ± {error}", f"{row.z:+.1f}") if row.status else ("–", "–")
        price = "0" if row.isometry else f"±{row.price:.2g}"
        return (
            row.symmetry, row.part, counted, outputs, f"{row.loss_change:.0e}", *measured,
            price if row.status else "–", self.says(row),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values; nan becomes None."""
        rows = [_plain(asdict(row)) | {"says": self.says(row)} for row in self.rows]
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        directions = None if self.directions is None else self.directions.to_dict()
        return _plain(own) | {"rows": rows, "directions": directions, "passed": self.passed}

    def save(self, path: str | Path) -> Path:
        """Write the check as JSON, whole or not at all; `load` reads it back."""
        path = Path(path)
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        write_whole(path, (text + "\n").encode())
        return path

    @classmethod
    def load(cls, path: str | Path) -> "SymmetryCheck":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing or is no saved check.
        """
        try:
            values = read_json(Path(path))
            rows = tuple(_read(Invariance, row) for row in values.pop("rows"))
            counted = values.pop("directions")
            directions = None if counted is None else Directions.from_dict(counted)
            return _read(cls, values | {"rows": rows, "directions": directions})
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path} is not a saved check of symmetries: {brief(repr(error))}"
            ) from error


def _read(kind: Any, values: Mapping[str, Any]) -> Any:
    """Build one of the classes above from its JSON, None of a number being nan."""
    found = {}
    for f in fields(kind):
        value = values[f.name]
        found[f.name] = math.nan if f.type is float and value is None else value
    return kind(**found)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _count(number: int) -> str:
    if number < 1_000_000:
        return f"{number:,}"
    exponent = int(math.log10(number))
    return f"{10 ** (math.log10(number) - exponent):.1f}e{exponent}"
