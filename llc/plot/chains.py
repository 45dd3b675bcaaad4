"""The chains of one estimate: what they did, whether they agree, how long they remember."""

from typing import TYPE_CHECKING, Any

import numpy as np

from llc.diagnostics import Array
from llc.estimation.estimate import rounded
from llc.plot.figures import COLOURS, COLUMN, CYCLE, PAGE, drawn, sheet

if TYPE_CHECKING:
    from llc.estimation import Estimate

__all__ = ["autocorrelation", "chains", "ranks", "traces"]

MOST_SHOWN = 1500
BINS = 20


def traces(result: "Estimate", ax: Any = None) -> Any:
    """Chart nβ(L − L*) along every chain, burn-in included, with the running mean.

    The running mean is that of all chains' draws so far, with a band of two standard errors of the
    final number. Where burn-in was cut into pieces only what came after the last restart is shown.

    Args:
        result: what `llc.estimate` returned, or `llc.Estimate.load`.
        ax: axes to draw on; None makes a figure of its own.

    Returns:
        The figure, or ``ax`` if it was given.
    """
    return drawn(
        lambda ax: _draw_traces(ax, result),
        ax,
        (PAGE, 2.6),
        _caption(result, "trace of every chain"),
    )


def ranks(result: "Estimate", ax: Any = None) -> Any:
    """Chart how ranks of the draws among all chains spread over each: level if chains agree.

    The grey band holds 95 % of the bars of independent draws, widened by the draws'
    autocorrelation (Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021, §5.1).

    Args:
        result: what `llc.estimate` returned.
        ax: axes to draw on; None makes a figure of its own.

    Returns:
        The figure, or ``ax`` if it was given.
    """
    return drawn(
        lambda ax: _draw_ranks(ax, result),
        ax,
        (COLUMN, 2.4),
        _caption(result, "ranks of the draws, chain by chain"),
    )


def autocorrelation(result: "Estimate", ax: Any = None) -> Any:
    """Chart the autocorrelation of nβ(L − L*) along every chain.

    Args:
        result: what `llc.estimate` returned.
        ax: axes to draw on; None makes a figure of its own.

    Returns:
        The figure, or ``ax`` if it was given.
    """
    return drawn(
        lambda ax: _draw_autocorrelation(ax, result),
        ax,
        (COLUMN, 2.4),
        _caption(result, "autocorrelation, chain by chain"),
    )


def chains(result: "Estimate") -> Any:
    """Put traces, ranks and autocorrelation of one estimate on a page.

    Args:
        result: what `llc.estimate` returned.

    Returns:
        The figure.
    """
    caption = _caption(result, "traces above; ranks and autocorrelation below")
    with sheet(PAGE, 4.6, caption) as figure:
        panels = figure.subplot_mosaic([["traces"] * 2, ["ranks", "memory"]])
        _draw_traces(panels["traces"], result)
        _draw_ranks(panels["ranks"], result)
        _draw_autocorrelation(panels["memory"], result)
    return figure


def _kept(result: "Estimate") -> list[int]:
    return [c for c in range(len(result.trace)) if c not in result.diverged]


def _draw_traces(ax: Any, result: "Estimate") -> None:
    before, draws = result.burn_in_trace, result.trace
    start = -before.shape[1]
    everything = np.concatenate([before, draws], 1)
    every = max(1, everything.shape[1] // MOST_SHOWN)
    places = np.arange(start, draws.shape[1])
    for chain, values in enumerate(everything):
        gone = chain in result.diverged
        ax.plot(
            places[::every], values[::every], color=CYCLE[chain % len(CYCLE)], lw=0.5,
            alpha=0.35 if gone else 0.8, rasterized=len(everything) > 16,
        )  # fmt: skip
    if start < 0:
        ax.axvspan(start, 0, color=COLOURS["muted"], alpha=0.12, lw=0)
        ax.annotate(
            "burn-in", (start, 1.0), xycoords=("data", "axes fraction"), xytext=(2, -2),
            textcoords="offset points", va="top", fontsize=6, color=COLOURS["muted"],
        )  # fmt: skip
    kept = draws[_kept(result)]
    if kept.size and np.isfinite(kept).all():
        running = kept.mean(0).cumsum() / np.arange(1, kept.shape[1] + 1)
        number, error = rounded(result.llc, result.mcse)
        ax.plot(np.arange(kept.shape[1]), running, color="black", lw=1.2,
                label=f"running mean, {number} ± {error} at its end")  # fmt: skip
        ax.axhspan(result.llc - 2 * result.mcse, result.llc + 2 * result.mcse, color="black",
                   alpha=0.12, lw=0)  # fmt: skip
        low, high = np.quantile(kept, [0.001, 0.999])
        room = 0.15 * (high - low)
        ax.set_ylim(min(low - room, 0.0 if low >= 0 else low - room), high + room)
        ax.legend(loc="lower right")
    ax.set_xlim(start, draws.shape[1])
    ax.set_xlabel("draw (burn-in negative)" if start < 0 else "draw")
    ax.set_ylabel(r"$n\beta\,(L - L^*)$")


def _draw_ranks(ax: Any, result: "Estimate") -> None:
    draws = result.trace[_kept(result)]
    if draws.size and np.isfinite(draws).all():
        count, length = draws.shape
        order = draws.ravel().argsort().argsort().reshape(draws.shape)
        edges = np.linspace(0, draws.size, BINS + 1)
        expected = length / BINS
        for row, chain in enumerate(_kept(result)):
            heights, _ = np.histogram(order[row], edges)
            ax.stairs(heights / expected, edges / draws.size, color=CYCLE[chain % len(CYCLE)],
                      lw=1.0, alpha=0.9, baseline=None)  # fmt: skip
        # A chain's draws are worth its share of the effective ones.
        worth = max(result.ess / count, 1.0)
        half = 1.96 * ((BINS - 1) / worth) ** 0.5
        ax.axhspan(max(1 - half, 0), 1 + half, color=COLOURS["muted"], alpha=0.15, lw=0)
        ax.axhline(1, color=COLOURS["muted"], lw=0.6)
        ax.set_ylim(0, max(2.0, 1 + 1.3 * half))
        _note(ax, f"R-hat {result.rhat:.3f}")
    ax.set_xlim(0, 1)
    ax.set_xlabel("rank among all chains (share)")
    ax.set_ylabel("share of a chain's draws\n(1 if chains agree)")


def _draw_autocorrelation(ax: Any, result: "Estimate") -> None:
    kept = _kept(result)
    draws = result.trace[kept]
    if draws.shape[1] > 3 and np.isfinite(draws).all() and len(kept):
        curves = np.array([_acf(chain) for chain in draws])
        quiet = np.flatnonzero(curves.mean(0) < 0.02)
        last = int(min(max(3 * (quiet[0] if len(quiet) else curves.shape[1]), 20),
                       curves.shape[1]))  # fmt: skip
        for curve, chain in zip(curves, kept, strict=True):
            ax.plot(curve[:last], color=CYCLE[chain % len(CYCLE)], lw=1.0)
        ax.set_xlim(0, last - 1)
        share = draws.size / result.ess if result.ess > 0 else np.inf
        _note(ax, f"ESS {result.ess:.0f}: one in {share:.1f} draws")
    ax.axhline(0, color=COLOURS["muted"], lw=0.6)
    ax.set_xlabel("lag (draws)")
    ax.set_ylabel("autocorrelation")


def _note(ax: Any, text: str) -> None:
    ax.annotate(
        text, (1.0, 1.0), xycoords="axes fraction", xytext=(-2, -2), textcoords="offset points",
        ha="right", va="top", fontsize=7,
    )  # fmt: skip


def _acf(values: Array) -> Array:
    """Autocorrelation at lags up to half the length, by Fourier transform."""
    centred = values - values.mean()
    size = 2 ** int(np.ceil(np.log2(2 * len(values))))
    power = np.abs(np.fft.rfft(centred, size)) ** 2
    found = np.fft.irfft(power, size)[: len(values) // 2]
    return found / found[0] if found[0] > 0 else np.zeros_like(found)


def _caption(result: "Estimate", what: str) -> str:
    s = result.settings
    return (
        f"{what}: {result}; nβ = {s.n_beta:.4g}, γ = {s.gamma:.4g}, {s.sampler} sampler, step "
        f"{s.step_size:.3g}, {s.chains} chains, {s.burn_in} + {s.draws} steps, seed {s.seed}."
    )
