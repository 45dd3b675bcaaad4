"""Fourier measures over training: amplitudes of the frequencies, restricted and excluded loss."""

from typing import TYPE_CHECKING, Any

import numpy as np

from llc.plot.figures import COLOURS, CYCLE, PAGE, sheet, step_axis

if TYPE_CHECKING:
    from llc.trajectory.circuits import Circuits

__all__ = ["circuits"]

HEIGHT = 3.6


def circuits(result: "Circuits", ax: Any = None) -> Any:
    """Chart the amplitude of every frequency, and the losses with and without the key ones.

    Args:
        result: what `llc.trajectory.circuits.circuits` returned.
        ax: axes for the amplitudes alone; None makes a figure with both panels.

    Returns:
        The figure, or ``ax`` if it was given.
    """
    if ax is not None:
        _amplitudes(ax, result)
        return ax
    with sheet(PAGE, HEIGHT, _caption(result)) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[1.4, 1])
        _amplitudes(upper, result)
        upper.set_xlabel("")
        _losses(lower, result)
        figure.align_ylabels()
    return figure


def _amplitudes(ax: Any, result: "Circuits") -> None:
    others = np.delete(result.amplitudes, [k - 1 for k in result.frequencies], axis=1)
    if others.size:
        ax.fill_between(
            result.steps, 0, others.max(1), color=COLOURS["muted"], alpha=0.25, lw=0,
            label="largest of the others",
        )  # fmt: skip
    for colour, birth in zip(CYCLE * 4, result.births, strict=False):
        label = f"k = {birth.frequency}, from {birth.step:,.0f} on"
        curve = result.amplitudes[:, birth.frequency - 1]
        ax.plot(result.steps, curve, color=colour, label=label)
        ax.plot(birth.step, birth.amplitude / 2, "o", color=colour, ms=3.5)
    step_axis(ax, result.steps)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("amplitude $A_k$ in the logits (nats)")
    ax.legend(loc="upper left")


def _losses(ax: Any, result: "Circuits") -> None:
    ax.plot(result.steps, result.excluded_loss, color=COLOURS["second"], label="excluded, training")
    ax.plot(result.steps, result.restricted_loss, color=COLOURS["main"], label="restricted, all")
    chance = np.log(result.prime)
    ax.axhline(chance, color=COLOURS["muted"], ls=":", lw=0.8, label=f"chance, ln {result.prime}")
    step_axis(ax, result.steps)
    ax.set_yscale("log")
    ax.set_ylabel("cross-entropy (nats)")
    ax.legend(loc="lower left")


def _caption(result: "Circuits") -> str:
    return (
        f"Addition modulo {result.prime} in the Fourier basis, {len(result.steps)} checkpoints. "
        "Upper panel: amplitudes of cos(2πk(a + b − c)/p) in the logits; dots where a key "
        "frequency passes half of its last amplitude for good. Lower panel: cross-entropy from "
        "the key frequencies alone, over all pairs, and without them, over the training pairs "
        "(Nanda et al. 2023)."
    )
