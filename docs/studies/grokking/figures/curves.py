"""The LLC over training: transitions, settings, matched networks, circuits."""

import numpy as np
from parts import common

from figures.common import COLOURS, CYCLE, PAGE, column, look, plain_ticks, save, sheet, thousands

SPAN = (500, 41_000)


def transitions() -> None:
    """Claim 1: curves of all runs, and which staircases would have been noticed."""
    traced, power = common.kept("trace"), common.kept("power")
    caption = "LLC of every run at nβ = n, γ = 100, behavioural; detector's power."
    with sheet(PAGE, 2.9, caption) as figure:
        left, right = figure.subplots(1, 2, width_ratios=[2.2, 1])
        for name, run in traced.items():
            style = look(name)
            left.plot(run["step"], column(run["llc"]), lw=1.0, **style)
            grokked = common.kept("train")[name]["grokked"]
            if grokked is not None:
                level = np.interp(grokked, run["step"], column(run["llc"]))
                left.plot(grokked, level, "v", ms=5, color=style["color"])
        left.set_xlim(*SPAN)
        left.set_yscale("log")
        plain_ticks(left.yaxis)
        thousands(left)
        left.set_ylabel(r"LLC $\hat\lambda$")
        left.legend(ncols=2, loc="lower left", fontsize=6)
        left.set_title("a  LLC; triangles: 99 % of held-out pairs right", loc="left")
        stairs = [int(k) for k in next(iter(power["runs"].values()))]
        places = range(len(stairs))
        right.plot(places, [max(k - 1, 0) for k in stairs], ":", color=COLOURS["muted"],
                   label="all of them")  # fmt: skip
        for name, by_plateaus in power["runs"].items():
            counts = [np.median(by_plateaus[str(k)]) for k in stairs]
            right.plot(places, counts, marker="o", ms=2.5, lw=0.8, color=look(name)["color"])
        right.set_xticks(places, ["smooth", *map(str, stairs[1:])])
        right.set_ylim(-1, 30)
        right.set_xlabel("plateaus put in")
        right.set_ylabel("transitions found (median)")
        right.legend(loc="upper left")
        right.set_title("b  would steps be seen?", loc="left")
    save(figure, "transitions")


def circuits() -> None:
    """Births of frequencies above, the LLC below."""
    found, traced = common.kept("circuits"), common.kept("trace")
    caption = "Amplitudes of the key frequencies and the LLC, five networks of p = 53."
    with sheet(PAGE, 3.2, caption) as figure:
        axes = figure.subplots(2, len(found), sharex=True, sharey="row")
        for (upper, lower), (name, run) in zip(axes.T, found.items(), strict=True):
            by_birth = sorted(run["births"], key=lambda birth: birth["step"])
            places = [run["frequencies"].index(birth["frequency"]) for birth in by_birth]
            curves = np.array(run["amplitudes"])
            heights = dict(zip(places, spread(curves[-1, places], 0.55), strict=True))
            for colour, birth, place in zip(CYCLE, by_birth, places, strict=False):
                upper.plot(run["steps"], curves[:, place], color=colour, lw=0.9)
                k, step, level = birth["frequency"], birth["step"], birth["amplitude"]
                upper.plot(step, level / 2, "o", ms=3, color=colour)
                for ax in (upper, lower):
                    ax.axvline(step, color=colour, lw=0.6, ls=":")
                upper.annotate(
                    f"{k}", (run["steps"][-1], heights[place]), xytext=(2, 0), fontsize=6,
                    textcoords="offset points", color=colour, va="center", annotation_clip=False,
                )  # fmt: skip
            step = np.array(traced[name]["step"])
            lower.plot(step, column(traced[name]["llc"]), color="black", lw=0.9)
            upper.set_title(name.replace("-", " "))
            lower.set_yscale("log")
            lower.set_xlim(0, 41_500)
            lower.set_ylim(bottom=45)
            thousands(lower)
            lower.set_xticks([0, 20_000, 40_000])
            lower.set_xlabel("")
        plain_ticks(axes[1, 0].yaxis)
        axes[0, 0].set_ylabel("amplitude $A_k$ (nats)")
        axes[1, 0].set_ylabel(r"LLC $\hat\lambda$")
        figure.supxlabel("training step", fontsize=8)
    save(figure, "circuits")


def spread(heights: np.ndarray, least: float) -> np.ndarray:
    """Move labels apart, evenly up and down, until neighbours are at least so far from another."""
    order = np.argsort(heights, kind="stable")
    placed = np.array(heights, float)
    for _ in range(200):
        gaps = np.diff(placed[order])
        push = np.clip(least - gaps, 0, None) / 2
        placed[order[:-1]] -= push
        placed[order[1:]] += push
    return placed


def settings() -> None:
    """Claim 2: LLC and prior-only null at two temperatures and two localisations."""
    found = common.kept("settings")
    keys = list(next(iter(found.values())))
    caption = "LLC (solid) and prior-only null (dashed) at four settings."
    with sheet(PAGE, 2.4, caption) as figure:
        axes = figure.subplots(1, len(keys), sharex=True, sharey=True)
        for ax, key in zip(axes, keys, strict=True):
            for name, by_setting in found.items():
                run, style = by_setting[key], look(name)
                steps, llc = np.array(run["step"]), column(run["llc"])
                failed = np.array([v == "fail" for v in run["verdict"]])
                ax.plot(steps, llc, color=style["color"], marker="o", ms=2, lw=0.9,
                        label=style["label"])  # fmt: skip
                ax.plot(steps, column(run["null"]), color=style["color"], ls="--", lw=0.6)
                ax.plot(steps[failed], llc[failed], "x", color="black", ms=4)
            words, gamma = key.split(", ")
            ax.set_title(f"nβ = {words}, γ = {gamma}")
            ax.set_yscale("log")
            thousands(ax)
            ax.set_xticks([0, 20_000, 40_000])
        plain_ticks(axes[0].yaxis)
        axes[0].set_ylabel(r"LLC $\hat\lambda$; dashed: null")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=6.5)
    save(figure, "settings")


def matched() -> None:
    """What is left of the fall at equal norm, and at equal confidence."""
    traced, found = common.kept("trace"), common.kept("matched")
    panels = {"as trained": None, "weights scaled to one norm": "norm",
              "logits scaled to one entropy": "confidence"}  # fmt: skip
    with sheet(PAGE, 2.6, "LLC as trained, at equal norm and at equal confidence.") as figure:
        axes = figure.subplots(1, 3, sharex=True, sharey=True)
        for ax, (title, kind) in zip(axes, panels.items(), strict=True):
            for name in found:
                run = traced[name] if kind is None else found[name][kind]
                steps = np.array(run["step"])
                late = steps >= common.window(name)[0]
                ax.plot(steps[late], column(run["llc"])[late], lw=1.0, **look(name))
            ax.set_title(title)
            ax.set_yscale("log")
            thousands(ax)
        plain_ticks(axes[0].yaxis)
        axes[0].set_ylabel(r"LLC $\hat\lambda$")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=6.5)
    save(figure, "matched")


def recipe() -> None:
    """The published recipe: its curve, its null, and where its chain is."""
    run = common.kept("recipe")
    steps = np.array(run["step"])
    with sheet(PAGE, 2.3, "The published recipe beside its prior-only null.") as figure:
        left, right = figure.subplots(1, 2)
        left.plot(steps, column(run["llc"]), marker="o", ms=2.5, label="published recipe")
        left.plot(steps, column(run["null"]), "--", color=COLOURS["second"],
                  label=r"$w^* + N(0, 1/\gamma)$, no loss gradient")  # fmt: skip
        left.set_ylabel(r"“LLC”, $n\beta = 2$, $\gamma = 5$")
        left.set_ylim(top=1.3 * column(run["null"]).max())
        left.legend(loc="upper left")
        right.plot(steps, column(run["sampled_loss"]), marker="o", ms=2.5, label="along the chains")
        right.axhline(run["chance"], color=COLOURS["muted"], ls=":", label="chance, ln 53")
        right.set_ylabel("cross-entropy (nats)")
        right.set_ylim(bottom=0)
        right.legend()
        for ax in (left, right):
            ax.set_xscale("log")
            ax.set_xlabel("training step")
    save(figure, "recipe")


def norm() -> None:
    """The rivals: weight norm and prior-only null as explanations of the LLC."""
    traced = common.kept("trace")
    with sheet(PAGE, 2.9, "LLC against weight norm and against the prior-only null.") as figure:
        axes = figure.subplots(1, 2, sharey=True)
        columns = {"weight_norm": "weight norm", "null": "prior-only null"}
        for ax, (key, words) in zip(axes, columns.items(), strict=True):
            for name, run in traced.items():
                late = np.array(run["step"]) >= common.window(name)[0]
                x, y = column(run[key])[late], column(run["llc"])[late]
                style = look(name)
                ax.plot(x, y, lw=0.9, **style)
                ax.plot(x[-1], y[-1], "s", ms=3, color=style["color"])
            ax.set_xscale("log")
            ax.set_yscale("log")
            plain_ticks(ax.xaxis)
            ax.set_xlabel(words)
        plain_ticks(axes[0].yaxis)
        axes[0].set_ylabel(r"LLC $\hat\lambda$; squares: last checkpoint")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=6.5)
    save(figure, "norm")
