"""Names of the numbers of a checkpoint: ours, and those that others saved beside the weights."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from llc.errors import InputError
from llc.estimation import Estimate
from llc.settings import Settings

__all__ = ["COLUMNS", "NUMBERS", "OURS", "kept_apart", "refuse_ours"]

COLUMNS = (
    "llc", "mcse", "virial", "rhat", "ess", "saturation", "null", "null_se",
    "slope_gamma", "slope_gamma_se", "slope_n_beta", "slope_n_beta_se",
    "baseline", "sampled_loss",
)  # fmt: skip
_FIELDS = {f.name: f.type for f in fields(Estimate)}
NUMBERS = {name for name, kind in _FIELDS.items() if kind in (float, int, float | None, int | None)}
OURS = frozenset({"step", "reasons", *_FIELDS, *(f.name for f in fields(Settings))})
"""Names with a meaning of ours, whether a table has a column for them or not."""


def kept_apart(numbers: Mapping[str, float], ours: frozenset[str] = OURS) -> dict[str, float]:
    """Return saved numbers under names that are not ours: a saved ``llc`` becomes ``saved_llc``.

    Names are put on one line; what cannot be printed becomes a space.
    """
    found: dict[str, float] = {}
    for name, value in numbers.items():
        plain = " ".join("".join(c if c.isprintable() else " " for c in str(name)).split())
        while not plain or plain in ours or plain in found or (plain != name and plain in numbers):
            plain = f"saved_{plain}"
        found[plain] = value
    return found


def refuse_ours(readings: Mapping[str, Any] | None) -> None:
    """Refuse readings that would have a name of ours.

    Raises:
        InputError: which.
    """
    for name, what in (readings or {}).items():
        for column in (name,) if callable(what) else (f"{name}_loss", f"{name}_accuracy"):
            if column in OURS:
                raise InputError(
                    f"reading {name!r} would be called {column}, as a number of every estimate is: "
                    f"give it another name, such as my_{name}"
                )
