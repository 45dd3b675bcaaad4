"""Effective dimension against scale: λ̂ over γ, its plateaus, the prior-only null beside it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llc.errors import InputError
from llc.estimation.estimate import rounded
from llc.parts import shown
from llc.plot.figures import COLOURS, COLUMN, PAGE, drawn

if TYPE_CHECKING:
    from llc.maps import ScaleMap
    from llc.scale import ScaleCurve

__all__ = ["scale_curve", "scale_map"]

# The null grows as 1/γ without bound; above this multiple of λ̂ it would only squeeze the curve.
NULL_ROOM = 1.35


def scale_curve(
    curve: "ScaleCurve",
    ax: Any = None,
    *,
    n_eff: Callable[[float], float] | Sequence[float] | None = None,
) -> Any:
    """Chart λ̂ against γ, strong priors on the left, with 90 % bands, null and plateaus.

    Args:
        curve: what `llc.scale_curve` returned.
        ax: axes to draw on; None makes a figure of its own.
        n_eff: N_eff(α) = Σ h_i/(h_i + α) as a function of α = γ/nβ, or its value for each point;
            half of it is drawn. The curve's own ``n_eff_half`` unless given.

    Returns:
        The figure, or ``ax`` if it was given.

    Raises:
        InputError: ``n_eff`` has not one value for each point.
    """
    half = _half(curve, n_eff)
    return drawn(lambda ax: _draw(ax, curve, half), ax, (PAGE, 3.9), _caption(curve))


def scale_map(result: "ScaleMap", ax: Any = None) -> Any:
    """Map λ̂ over training step and γ: what is learned shows up at the scale where it lives.

    Cells that were not reached, or whose verdict failed, are left white.

    Args:
        result: what `llc.scale_map` returned.
        ax: axes to draw on; None makes a figure of its own.

    Returns:
        The figure, or ``ax`` if it was given.
    """
    s = result.curves[0].points[0].settings
    loss = ", behavioural loss" if s.behavioural else ""
    loss += "" if s.only is None else f", only {shown(s.only)} sampled"
    caption = (
        f"{result.name}: effective dimension by training step and γ, one annealed run a "
        f"checkpoint; nβ = {s.n_beta:.4g}, {s.chains} chains, seed {s.seed}{loss}; white: not "
        "reached, or the verdict failed."
    )
    return drawn(lambda ax: _draw_map(ax, result), ax, (COLUMN, 2.6), caption)


def _draw_map(ax: Any, result: "ScaleMap") -> None:
    values = result.grid()
    steps = np.maximum(np.array(result.steps, float), 0.5)
    # Counted from zero: a logarithm would spend its colours on scales where nothing is resolved.
    mesh = ax.pcolormesh(
        _edges(steps), _edges(result.gammas), values, vmin=0.0,
        vmax=max(_finite(values).max(), 1e-9),
        cmap="cividis",
    )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.invert_yaxis()
    ax.set_xlabel("training step")
    ax.set_ylabel(r"$\gamma$ (larger scales upwards)")
    bar = ax.figure.colorbar(mesh, ax=ax, pad=0.02)
    bar.set_label(r"effective dimension $\hat\lambda$")
    bar.outline.set_linewidth(0.6)


def _edges(places: np.ndarray) -> np.ndarray:
    """Edges of cells around places, half-way in the logarithm."""
    logs = np.log(places)
    if len(logs) == 1:
        return places[0] * np.array([0.8, 1.25])
    middles = (logs[1:] + logs[:-1]) / 2
    ends = 2 * logs[0] - middles[0], 2 * logs[-1] - middles[-1]
    return np.exp(np.concatenate([[ends[0]], middles, [ends[1]]]))


def _half(
    curve: "ScaleCurve", n_eff: Callable[[float], float] | Sequence[float] | None
) -> np.ndarray | None:
    """N_eff/2 at each point."""
    if n_eff is None:
        return None if curve.n_eff_half is None else np.array(curve.n_eff_half)
    if callable(n_eff):
        return np.array(curve.with_n_eff(n_eff).n_eff_half)
    values = np.asarray(n_eff, dtype=float)
    if values.shape != curve.gamma.shape:
        raise InputError(
            f"n_eff has shape {values.shape}, expected one value for each of "
            f"{len(curve.gamma)} points"
        )
    return values / 2


def _draw(ax: Any, curve: "ScaleCurve", half: np.ndarray | None) -> None:
    gamma = curve.gamma
    failed = np.array([p.verdict.status == "fail" for p in curve.points])
    # Failed points are crossed, not connected, and do not stretch the axis.
    llc, low, high = (np.where(failed, np.nan, v) for v in (curve.llc, *curve.interval(0.9)))
    # λ̂ is counted from zero: an axis that does not show it makes every slope look steep.
    top = NULL_ROOM * (max(_finite(high).max(), 0.0) or 1.0)
    bottom = min(0.0, 1.1 * _finite(low).min())
    for plateau in curve.plateaus:
        ax.axvspan(plateau.gamma_low, plateau.gamma_high, color=COLOURS["third"], alpha=0.13, lw=0)
        ax.plot(
            [plateau.gamma_high, plateau.gamma_low], [plateau.llc] * 2,
            color=COLOURS["third"], lw=0.8, zorder=1,
        )  # fmt: skip
        ax.annotate(
            "plateau " + " ± ".join(rounded(plateau.llc, plateau.mcse)),
            (np.sqrt(plateau.gamma_high * plateau.gamma_low), 0.04 * top),
            ha="center", va="bottom", fontsize=6.5, color=COLOURS["third"],
        )  # fmt: skip
    ax.fill_between(gamma, low, high, color=COLOURS["main"], alpha=0.3, lw=0)
    ax.plot(gamma, llc, "o-", ms=3, color=COLOURS["main"], label="λ̂ with 90 % band")
    null = curve.column("null")
    label = "prior-only null" + (" (above this chart)" if (null > top).all() else "")
    ax.plot(gamma, null, "--", color=COLOURS["second"], lw=0.9, label=label)
    if half is not None:
        ax.plot(gamma, half, ":", color="black", lw=1.0, label=r"$N_\mathrm{eff}(\gamma/n\beta)/2$")
    if failed.any():
        # A number beyond the axis is crossed at its edge, none at all at zero.
        height = np.clip(np.nan_to_num(curve.llc, nan=0.0), bottom, top)
        ax.plot(
            gamma[failed], height[failed], "x", color="black", ms=6, zorder=5,
            label="verdict: fail", clip_on=False,
        )  # fmt: skip
    ax.set_xscale("log")
    margin = 1.15 * (gamma.max() / gamma.min()) ** 0.02
    ax.set_xlim(gamma.max() * margin, gamma.min() / margin)
    ax.set_ylim(bottom, top)
    ax.set_xlabel(r"$\gamma$, strength of the prior ($1/\sqrt{\gamma}$ grows to the right)")
    ax.set_ylabel(r"effective dimension $\hat\lambda$ (a parameter counts ½)")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=4)


def _finite(values: np.ndarray) -> np.ndarray:
    finite = values[np.isfinite(values)]
    return finite if len(finite) else np.zeros(1)


def _caption(curve: "ScaleCurve") -> str:
    s = curve.points[0].settings
    loss = ", behavioural loss" if s.behavioural else ""
    loss += "" if s.only is None else f", only {shown(s.only)} sampled"
    text = (
        f"{curve.name}: effective dimension against γ; nβ = {s.n_beta:.4g}, "
        f"{curve.points[0].dimension:,} parameters, {s.chains} chains in one annealed run{loss}"
    )
    return f"{text}; stopped: {curve.stopped}." if curve.stopped else f"{text}."
