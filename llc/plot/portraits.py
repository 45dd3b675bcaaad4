"""A run seen from other sides: against its loss, against N_eff, against other runs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llc.errors import InputError, some
from llc.plot.figures import COLOURS, COLUMN, CYCLE, drawn, literal, plain_ticks, step_axis
from llc.plot.trajectory import settings_line

if TYPE_CHECKING:
    from llc.trajectory import Trajectory

__all__ = ["dimension", "portrait", "runs"]

MAP = "viridis"


def portrait(result: "Trajectory", ax: Any = None, *, loss: str | None = None) -> Any:
    """Chart the LLC against the loss, checkpoint after checkpoint, steps as colour.

    Plateaus are clusters; a transition is a move between them, and its direction says whether the
    loss was bought with complexity.

    Args:
        result: what `llc.trace` returned.
        ax: axes to draw on; None makes a figure of its own.
        loss: name of a metadata column; unless given the training loss saved beside the weights,
            else any loss there, else that at w* as the estimates measured it.

    Returns:
        The figure, or ``ax`` if it was given.

    Raises:
        InputError: no such column.
    """
    names = ["baseline", *result.metadata_names]
    if loss is not None and loss not in names:
        raise InputError(f"loss is {loss!r}, expected one of {some(names, 8)}")
    chosen = loss or _loss_of(result)
    caption = f"{result.name}: LLC against loss over training; {settings_line(result)}."
    return drawn(lambda ax: _draw_portrait(ax, result, chosen), ax, (COLUMN, 2.7), caption)


def _loss_of(result: "Trajectory") -> str:
    known = [n for n in result.metadata_names if n == "loss" or n.endswith("_loss")]
    # A behavioural loss is zero at every checkpoint: what was saved in training comes first.
    return "train_loss" if "train_loss" in known else [*known, "baseline"][0]


def _draw_portrait(ax: Any, result: "Trajectory", loss: str) -> None:
    from matplotlib.colors import LogNorm

    x, y = result.column(loss), result.llc
    steps = np.maximum(result.steps, 1)
    ax.plot(x, y, color=COLOURS["muted"], lw=0.5, zorder=1)
    many = len(steps) > 1 and steps.max() > steps.min()
    norm = LogNorm(steps.min(), steps.max()) if many else None
    dots = ax.scatter(x, y, c=steps, norm=norm, cmap=MAP, s=10, zorder=2)
    bars = 1.645 * result.mcse
    ax.errorbar(x, y, bars, fmt="none", ecolor=COLOURS["muted"], elinewidth=0.4, zorder=1)
    if many:
        bar = ax.figure.colorbar(dots, ax=ax, pad=0.02)
        bar.set_label("training step")
        bar.outline.set_linewidth(0.6)
    finite = x[np.isfinite(x)]
    if len(finite) and (finite > 0).all() and finite.max() > 5 * finite.min():
        ax.set_xscale("log")
        # What goes to zero would fill the panel with decades of rounding.
        ax.set_xlim(left=max(ax.get_xlim()[0], 1e-8 * finite.max()))
    ax.set_xlabel("loss at the checkpoint" if loss == "baseline" else loss.replace("_", " "))
    ax.set_ylabel(r"LLC $\hat\lambda$")


def dimension(result: "Trajectory", ax: Any = None, *, n_eff: str = "n_eff") -> Any:
    """Chart 2λ̂ beside N_eff(γ/nβ), which equal one another where the loss is quadratic.

    Args:
        result: what `llc.trace` returned, N_eff among its readings.
        ax: axes to draw on; None makes a figure of its own.
        n_eff: name of the column of N_eff.

    Returns:
        The figure, or ``ax`` if it was given.

    Raises:
        InputError: no such column.
    """
    if n_eff not in result.metadata_names:
        raise InputError(
            f"{result.name} holds no {n_eff!r}, expected N_eff among its readings: trace with it"
        )
    caption = (
        f"{result.name}: twice the LLC with 90 % band, and the effective dimension of the "
        f"curvature at w*, Σ h/(h + γ/nβ); {settings_line(result)}."
    )
    return drawn(lambda ax: _draw_dimension(ax, result, n_eff), ax, (COLUMN, 2.6), caption)


def _draw_dimension(ax: Any, result: "Trajectory", n_eff: str) -> None:
    low, high = result.interval(0.9)
    ax.fill_between(result.steps, 2 * low, 2 * high, color=COLOURS["main"], alpha=0.3, lw=0)
    ax.plot(
        result.steps, 2 * result.llc, "o-", ms=2.2, color=COLOURS["main"], label=r"$2\hat\lambda$"
    )
    ax.plot(
        result.steps, result.column(n_eff), "s--", ms=2.2, color=COLOURS["second"],
        label=r"$N_\mathrm{eff}(\gamma/n\beta)$ at $w^*$",
    )  # fmt: skip
    step_axis(ax, result.steps)
    ax.set_ylabel("effective dimension")
    ax.set_ylim(bottom=0)
    ax.legend(loc="best")


def runs(
    results: "Sequence[Trajectory]", ax: Any = None, *, names: Sequence[str] | None = None
) -> Any:
    """Chart the LLC of several runs over one another, with 90 % bands.

    Args:
        results: what `llc.trace` returned, once a run.
        ax: axes to draw on; None makes a figure of its own.
        names: for the legend; the runs' own unless given.

    Returns:
        The figure, or ``ax`` if it was given.

    Raises:
        InputError: no run, or not a name for each.
    """
    labels = [run.name for run in results] if names is None else list(names)
    if not results or len(labels) != len(results):
        raise InputError(f"{len(results)} runs and {len(labels)} names, expected one each")
    parts = [f"{n} ({settings_line(r)})" for n, r in zip(labels, results, strict=True)]
    caption = f"LLC over training with 90 % bands: {'; '.join(parts)}."
    return drawn(lambda ax: _draw_runs(ax, results, labels), ax, (COLUMN, 2.7), caption)


def _draw_runs(ax: Any, results: "Sequence[Trajectory]", labels: list[str]) -> None:
    for k, (run, label) in enumerate(zip(results, labels, strict=True)):
        colour = CYCLE[k % len(CYCLE)]
        low, high = run.interval(0.9)
        ax.fill_between(run.steps, low, high, color=colour, alpha=0.25, lw=0)
        ax.plot(run.steps, run.llc, "o-", ms=2, color=colour, label=literal(label))
    step_axis(ax, np.concatenate([run.steps for run in results]))
    shown = np.concatenate([run.llc[np.isfinite(run.llc)] for run in results])
    if len(shown) and (shown > 0).all() and shown.max() > 4 * shown.min():
        ax.set_yscale("log")
        plain_ticks(ax.yaxis)
    ax.set_ylabel(r"LLC $\hat\lambda$")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
