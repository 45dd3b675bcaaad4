"""Effective dimensionality over training: the LLC under the learning curves."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llc.diagnostics import Array
from llc.estimation.estimate import rounded
from llc.parts import shown
from llc.plot.figures import COLOURS, CYCLE, MOST_SPAN, PAGE, literal, plain_ticks, sheet, step_axis

if TYPE_CHECKING:
    from llc.refined import Refined
    from llc.trajectory import Trajectory
    from llc.transitions import Transition

__all__ = ["settings_line", "trajectory"]

MEMORISED = 0.99
NULL_REACH = 10


def trajectory(
    result: "Trajectory",
    ax: Any = None,
    *,
    control: "Trajectory | None" = None,
    transitions: "Sequence[Transition] | None" = None,
    exact: Mapping[float, float] | None = None,
) -> Any:
    """Chart a trajectory: learning curves above, LLC with its 90 % band and null below.

    Curves come from the checkpoints' metadata, whatever is called ``..._loss`` or
    ``..._accuracy`` there; without any of them the upper panel is left out.

    Args:
        result: what `llc.trace` returned.
        ax: axes for the LLC panel alone; None makes a figure of its own.
        control: a second run to hold it against: one that should show no change.
        transitions: what `llc.find_transitions` returned: shaded intervals with their heights, or
            a line that says that there are none.
        exact: step → λ where it is known, drawn as stairs; the metadata's ``exact_llc`` unless
            given.

    Returns:
        The figure, or ``ax`` if it was given.
    """
    if ax is not None:
        _draw_llc(ax, result, control, transitions, exact)
        return ax
    losses, accuracies = _curves(result)
    curves = bool(losses or accuracies)
    caption = _caption(result, control, transitions)
    with sheet(PAGE, 5.2 if curves else 3.6, caption) as figure:
        if curves:
            upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.5])
            _draw_curves(upper, result, losses, accuracies)
            _mark_stages((upper, lower), result)
        else:
            lower = figure.subplots()
        _draw_llc(lower, result, control, transitions, exact)
    return figure


def _draw_llc(
    ax: Any,
    result: "Trajectory",
    control: "Trajectory | None",
    transitions: "Sequence[Transition] | None",
    exact: Mapping[float, float] | None,
) -> None:
    _run(ax, result, COLOURS["main"], "o", "")
    if control is not None:
        _run(ax, control, COLOURS["second"], "s", " (control)")
    _draw_exact(ax, result, exact)
    steps = result.steps
    doubtful = _status(result, "fail")
    if doubtful.any():
        ax.plot(
            steps[doubtful], result.llc[doubtful], "x", color="black", ms=5,
            label="verdict: fail",
        )  # fmt: skip
    step_axis(ax, steps)
    if _spans(result, control):
        ax.set_yscale("log")
        plain_ticks(ax.yaxis)
    ax.set_ylabel(r"local learning coefficient $\hat\lambda$")
    if transitions is not None:
        _draw_transitions(ax, transitions)
    # Below the axis: over a whole run the curves cross every corner of the panel.
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)


def _status(result: "Trajectory", status: str) -> Array:
    return np.array([p.estimate.verdict.status == status for p in result.points])


def _draw_exact(ax: Any, result: "Trajectory", exact: Mapping[float, float] | None) -> None:
    """λ where it is known: as given, or of the checkpoints that say it in their metadata."""
    look: dict[str, Any] = {"color": "black", "lw": 0.8, "label": "exact λ", "zorder": 1}
    if exact:
        places = sorted(exact)
        ends = [*places, max(places[-1], float(result.steps[-1]))]
        levels = [*(exact[p] for p in places), exact[places[-1]]]
        ax.step(ends, levels, where="post", **look)
    elif exact is None and np.isfinite(values := result.column("exact_llc")).any():
        ax.step(result.steps, values, where="mid", **look)


def _spans(result: "Trajectory", control: "Trajectory | None") -> bool:
    """Whether the numbers are all positive and span so much that only a logarithm shows them."""
    runs = [result] if control is None else [result, control]
    shown = np.concatenate([run.llc[np.isfinite(run.llc)] for run in runs])
    return bool(len(shown) and (shown > 0).all() and shown.max() > 4 * shown.min())


def _run(ax: Any, result: "Trajectory", colour: str, marker: str, role: str) -> None:
    """Draw one run's LLC with its band, and its prior-only null."""
    low, high = result.interval(0.9)
    ax.fill_between(result.steps, low, high, color=colour, alpha=0.3, lw=0)
    label = f"LLC, {literal(result.name)}{role}"
    ax.plot(result.steps, result.llc, marker=marker, ms=2.2, color=colour, label=label)
    warned = _status(result, "warn")
    if warned.any():
        ax.plot(
            result.steps[warned], result.llc[warned], marker, mfc="white", mec=colour, mew=0.6,
            ms=3, label=f"verdict: warn{role}",
        )  # fmt: skip
    if _null_is_near(result):
        ax.plot(
            result.steps, _null_in_reach(result), "--", color=colour, alpha=0.6, lw=0.8,
            label=f"prior-only null{role}",
        )  # fmt: skip


def _null_is_near(result: "Trajectory") -> bool:
    """Where the prior alone would give many times as much it says nothing, and hides the curve."""
    return not (result.column("null") > 3 * _highest(result)).all()


def _highest(result: "Trajectory") -> float:
    return float(np.nanmax(result.llc)) if np.isfinite(result.llc).any() else np.nan


def _null_in_reach(result: "Trajectory") -> Array:
    """Return the null up to ten times the highest LLC: above, it would take the axis for itself."""
    null = result.column("null")
    return np.where(null > NULL_REACH * _highest(result), np.nan, null)


def _cut(result: "Trajectory") -> str:
    lost = np.isnan(_null_in_reach(result)) & np.isfinite(result.column("null"))
    return f" (where that is at most {NULL_REACH} times the highest)" if lost.any() else ""


def _draw_transitions(ax: Any, transitions: "Sequence[Transition]") -> None:
    for number, t in enumerate(transitions):
        low, high = t.interval
        ax.axvspan(low, high, color=COLOURS["third"], alpha=0.18, lw=0, zorder=0)
        ax.axvline(t.step, color=COLOURS["third"], lw=0.7, zorder=0)
        value, error = rounded(abs(t.jump), t.jump_se)
        arrow = "↑" if t.jump > 0 else "↓"
        ax.annotate(
            f"{arrow} {value} ± {error}", (t.step, 1.0), xycoords=("data", "axes fraction"),
            # Neighbours at different heights, or their words would run into one another.
            xytext=(0, 2 + 8 * (number % 2)), textcoords="offset points", ha="center",
            va="bottom", fontsize=6, color=COLOURS["third"],
        )  # fmt: skip
    if not transitions:
        verdict = getattr(transitions, "verdict", "")
        why = {"smooth": "a smooth curve explains it better", "constant": "it stays as it is"}
        words = f"no transition: {why[verdict]}" if verdict in why else "no transition found"
        ax.annotate(
            words, (0.99, 1.0), xycoords="axes fraction", xytext=(0, 2),
            textcoords="offset points", ha="right", fontsize=6, color=COLOURS["third"],
        )  # fmt: skip


def _curves(result: "Trajectory") -> tuple[list[str], list[str]]:
    """Names of the metadata that are losses and accuracies, and hold a number."""
    names = [n for n in result.metadata_names if np.isfinite(result.column(n)).any()]
    return (
        [n for n in names if n == "loss" or n.endswith("_loss")],
        [n for n in names if n == "accuracy" or n.endswith("_accuracy")],
    )


def _draw_curves(ax: Any, result: "Trajectory", losses: list[str], accuracies: list[str]) -> None:
    """Losses as lines on the left, accuracies dotted on the right; one colour a data set."""
    sets = list(dict.fromkeys(n.rpartition("_")[0] for n in [*losses, *accuracies]))
    sets.sort(key=lambda name: name != "train")
    colours = {name: CYCLE[k % len(CYCLE)] for k, name in enumerate(sets)}
    for name in losses:
        values = result.column(name)
        colour = colours[name.rpartition("_")[0]]
        ax.plot(result.steps, values, color=colour, label=literal(name.replace("_", " ")))
    if losses and all((_finite(result.column(n)) > 0).all() for n in losses):
        ax.set_yscale("log")
        # A loss that goes to zero would fill the panel with decades of rounding.
        top = max(_finite(result.column(n)).max() for n in losses)
        ax.set_ylim(bottom=max(ax.get_ylim()[0], 1e-8 * top))
        if top < MOST_SPAN * min(_finite(result.column(n)).min() for n in losses):
            plain_ticks(ax.yaxis)
    if losses:
        ax.set_ylabel("loss")
    handles, labels = ax.get_legend_handles_labels()
    if accuracies:
        right = ax.twinx() if losses else ax
        right.spines["right"].set_visible(bool(losses))
        for name in accuracies:
            colour = colours[name.rpartition("_")[0]]
            label = literal(name.replace("_", " "))
            right.plot(result.steps, result.column(name), ":", color=colour, label=label)
        right.set_ylim(-0.03, 1.03)
        right.set_ylabel("accuracy (dotted)")
        if losses:
            more, names = right.get_legend_handles_labels()
            handles, labels = handles + more, labels + names
    ax.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=4)


def _finite(values: Array) -> Array:
    return values[np.isfinite(values)]


def _mark_stages(axes: tuple[Any, ...], result: "Trajectory") -> None:
    """Thin lines where training and held-out accuracy first reach 99 %."""
    for part in ("train", "test"):
        step = _first_above(result.steps, result.column(f"{part}_accuracy"), MEMORISED)
        if step is not None:
            for ax in axes:
                ax.axvline(step, color=COLOURS["muted"], lw=0.5, zorder=0)
            axes[0].annotate(
                f"{part} accuracy 99 %", (step, 1.0), xycoords=("data", "axes fraction"),
                xytext=(-2, 1), textcoords="offset points", ha="right", va="bottom",
                fontsize=6, color=COLOURS["muted"],
            )  # fmt: skip


def _first_above(steps: Array, values: Array, level: float) -> float | None:
    reached = np.flatnonzero(values >= level)
    return float(steps[reached[0]]) if len(reached) else None


def settings_line(result: "Trajectory | Refined", *, only: bool = True) -> str:
    """What a reader needs to get the same numbers, in one line; or but for the part sampled."""
    s = result.settings
    loss = ", behavioural loss" if s.behavioural else ""
    loss += "" if s.only is None or not only else f", only {shown(s.only)} sampled"
    gamma = "chosen" if s.gamma is None else f"{s.gamma:.4g}"
    n_beta = "n/ln n" if s.n_beta is None else f"{s.n_beta:.4g}"
    return (
        f"nβ = {n_beta}, γ = {gamma}, {s.sampler} sampler, {s.chains} chains, seed {s.seed}{loss}"
    )


def _doubts(result: "Trajectory") -> str:
    """How many verdicts are not ok, and what stands in most of those."""
    count = Counter(r.name for p in result.points for r in p.estimate.verdict.reasons)
    if not count:
        return ""
    warned, failed = (int(_status(result, status).sum()) for status in ("warn", "fail"))
    why = ", ".join(f"{name} {times}" for name, times in count.most_common())
    return f" Verdicts: {warned} warn (hollow), {failed} fail (crosses): {why}."


def _caption(
    result: "Trajectory",
    control: "Trajectory | None",
    transitions: "Sequence[Transition] | None",
) -> str:
    against = "" if control is None else f" against {control.name} (control)"
    beside = (
        f"and what the prior alone would give{_cut(result)}"
        if _null_is_near(result)
        else "not drawn what the prior alone would give, always more than three times as much"
    )
    text = (
        f"{result.name}{against}: local learning coefficient at {len(result.points)} checkpoints "
        f"with 90 % bands (hidden where narrower than the line), {beside}; {settings_line(result)}."
    )
    text += _doubts(result)
    if transitions:
        text += " Shaded: where a transition lies, with 90 % probability over resampled chains."
    return text
