"""What the step size does to an estimate: one line a γ, from a sweep."""

from typing import TYPE_CHECKING, Any

import numpy as np

from llc.errors import InputError
from llc.plot.figures import COLOURS, COLUMN, CYCLE, drawn

if TYPE_CHECKING:
    from llc.sweeps import Sweep

__all__ = ["step_size"]


def step_size(result: "Sweep", ax: Any = None, *, n_beta: float | None = None) -> Any:
    """Chart λ̂ against the step size, one line for each γ, with 90 % bars.

    A number that can be trusted stands on a level stretch; towards large steps the step itself
    raises it, towards small ones the chains do not arrive. Cells whose verdict failed are crossed.

    Args:
        result: what `llc.sweep` returned.
        ax: axes to draw on; None makes a figure of its own.
        n_beta: which of the sweep's; that of the chosen settings, or the nearest, unless given.

    Returns:
        The figure, or ``ax`` if it was given.

    Raises:
        InputError: the sweep has no such nβ.
    """
    values = np.array(result.n_betas)
    if n_beta is not None and not np.isclose(values, n_beta, rtol=1e-6).any():
        raise InputError(f"n_beta is {n_beta}, expected one of {', '.join(map(str, values))}")
    wanted = result.settings.n_beta if n_beta is None else n_beta
    number = int(np.abs(np.log(values / (wanted or values[0]))).argmin())
    s = result.settings
    caption = (
        f"{result.name}: LLC against step size at nβ = {values[number]:.4g}, {s.sampler} sampler, "
        f"{s.chains} chains a cell, seed {s.seed}; 90 % bars, crosses where the verdict failed."
    )
    return drawn(lambda ax: _draw(ax, result, number), ax, (COLUMN, 2.7), caption)


def _draw(ax: Any, result: "Sweep", number: int) -> None:
    steps = np.array(result.step_sizes)
    for j, gamma in enumerate(result.gammas):
        cells = [result.cell(number, i, j) for i in range(len(steps))]
        llc = np.array([cell.llc for cell in cells])
        bars = 1.645 * np.array([cell.mcse for cell in cells])
        sound = np.array([cell.status != "fail" for cell in cells])
        colour = CYCLE[j % len(CYCLE)]
        ax.errorbar(
            steps, np.where(sound, llc, np.nan), np.where(sound, bars, np.nan), fmt="o-", ms=2.5,
            lw=1.0, color=colour, label=f"$\\gamma$ = {gamma:.3g}",
        )  # fmt: skip
        ax.plot(steps[~sound], llc[~sound], "x", ms=4, color=colour)
    chosen = result.settings.step_size
    if chosen is not None:
        ax.axvline(chosen, color=COLOURS["muted"], lw=0.6, zorder=0)
        ax.annotate(
            "chosen", (chosen, 1.0), xycoords=("data", "axes fraction"), xytext=(2, -2),
            textcoords="offset points", va="top", fontsize=6, color=COLOURS["muted"],
        )  # fmt: skip
    _limit(ax, result, number)
    ax.set_xscale("log")
    ax.set_xlabel(f"step size ({result.settings.sampler})")
    ax.set_ylabel(r"LLC $\hat\lambda$")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=3)


def _limit(ax: Any, result: "Sweep", number: int) -> None:
    """Let cells that failed not stretch the axis beyond twice what the others span."""
    shape = range(len(result.step_sizes)), range(len(result.gammas))
    cells = [result.cell(number, i, j) for i in shape[0] for j in shape[1]]
    sound = np.array([c.llc for c in cells if c.status != "fail" and np.isfinite(c.llc)])
    if len(sound):
        room = max(sound.max() - sound.min(), 0.2 * abs(sound).max())
        ax.set_ylim(min(0.0, sound.min() - room / 2), sound.max() + room)
