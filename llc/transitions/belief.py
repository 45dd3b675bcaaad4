"""Which estimates have a say in where transitions are, and how loud a one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llc.estimation import Estimate, Reason
from llc.trajectory import Point

__all__ = ["Believed", "believe"]

DOUBT = 3.0
MEANS_ELSE = {
    Reason.NEGATIVE, Reason.STEP_TOO_LARGE, Reason.HEATED, Reason.ALL_DIVERGED,
}  # fmt: skip


@dataclass(frozen=True)
class Believed:
    """Checkpoints that have a say.

    Attributes:
        points: those kept, in order.
        errors: standard errors to use for them.
        left_out: step → sentence.
        doubted: step → sentence; kept, with errors three times as large.
    """

    points: tuple[Point, ...]
    errors: tuple[float, ...]
    left_out: dict[int, str]
    doubted: dict[int, str]


def believe(points: Sequence[Point], keep_failed: bool) -> Believed:
    """Sort checkpoints by their verdicts.

    A failed one whose number means something else is left out; one that has not converged, was
    sampled above chance, or is no minimum of the training loss is kept with three times the larger
    of its Monte-Carlo and total error: resampled chains cannot see by how much it is too low.
    """
    kept, errors = [], []
    left_out: dict[int, str] = {}
    doubted: dict[int, str] = {}
    for point in points:
        e = point.estimate
        doubt = None if keep_failed else _doubt(e)
        if not (np.isfinite(e.llc) and np.isfinite(e.mcse)):
            left_out[point.step] = "not measured"
            continue
        # The gravest reason comes first; the others may be mere warnings.
        if doubt is not None and e.verdict.status == "fail" and e.verdict.reasons[0] in MEANS_ELSE:
            left_out[point.step] = doubt
            continue
        if doubt is not None:
            doubted[point.step] = doubt
        kept.append(point)
        errors.append(e.mcse if doubt is None else DOUBT * max(e.mcse, e.errors.total))
    return Believed(tuple(kept), tuple(errors), left_out, doubted)


def _doubt(e: Estimate) -> str | None:
    """Why an estimate is not believed as it stands, or None."""
    if e.verdict.status == "fail":
        return f"verdict fail: {re.split(r': | [(]', e.verdict.sentences[0])[0]}"
    if Reason.NOT_A_MINIMUM in e.verdict.reasons and not e.settings.behavioural:
        return (
            "w* is no minimum of the loss, and the LLC too low by an unknown amount: trace with "
            "behavioural=True"
        )
    return None
