"""Draw all figures of the study from ``results/*.json``; `study.py` calls it."""

from figures import checks, curves

FIGURES = (
    curves.transitions, curves.circuits, curves.settings, curves.matched, curves.norm,
    curves.recipe, checks.barriers, checks.planting, checks.mixtures, checks.similarity,
    checks.transformer,
)  # fmt: skip


def draw() -> None:
    """Draw every figure."""
    for figure in FIGURES:
        figure()
