"""Barriers, planted exceptions, mixtures, symmetries, and the published transformer."""

import numpy as np
from parts import common

from figures.common import COLOURS, CYCLE, PAGE, column, look, plain_ticks, save, sheet, thousands

FLOOR = 1e-6


def barriers() -> None:
    """Claims 3 and 7: barriers to the last network, between neighbours, and between seeds."""
    found, trained = common.kept("barriers"), common.kept("train")
    with sheet(PAGE, 2.9, "Barriers to the last checkpoint, and between neighbours.") as figure:
        left, middle, right = figure.subplots(1, 3, width_ratios=[1.3, 1.3, 1])
        for name, run in found["runs"].items():
            style, steps = look(name), np.array(run["step"])
            left.plot(steps, np.maximum(column(run["height"]), FLOOR), lw=0.9, **style)
            near = run["neighbours"]
            middle.plot(near["step"], np.maximum(column(near["height"]), FLOOR), lw=0.7, **style)
            grokked = trained[name]["grokked"]
            if grokked is not None:
                level = np.interp(grokked, steps, column(run["height"]))
                left.plot(grokked, max(level, FLOOR), "v", ms=4, color=style["color"])
        titles = "a  to the last checkpoint", "b  to the next checkpoint"
        for ax, title in zip((left, middle), titles, strict=True):
            ax.set_yscale("log")
            ax.set_ylim(FLOOR / 2, 10)
            ax.set_title(title, loc="left")
            thousands(ax)
        left.set_ylabel("loss barrier (nats)")
        kinds = {"straight": "straight", "aligned": "aligned", "curve": "curve"}
        for pair in found["seeds"]:
            heights = [max(pair[kind], FLOOR) for kind in kinds]
            right.plot(range(3), heights, marker="o", ms=2.5, lw=0.6, color=COLOURS["muted"])
        right.set_yscale("log")
        right.set_ylim(FLOOR / 2, 10)
        right.set_xticks(range(3), list(kinds.values()))
        right.set_title("c  between seeds", loc="left")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=6.5)
    save(figure, "barriers")


def planting() -> None:
    """Claim 4: LLC against the number of planted exceptions."""
    found = common.kept("planting")["runs"]
    with sheet(PAGE / 2, 2.5, "LLC of grokked networks with planted exceptions.") as figure:
        ax = figure.subplots()
        for name, run in found.items():
            count, llc = np.array(run["planted"]), column(run["llc"])
            style = look(name)
            ax.errorbar(count, llc, 2 * column(run["mcse"]), marker="o", ms=3, capsize=2, lw=0.9,
                        **style)  # fmt: skip
            ax.plot(count, llc[0] * column(run["null"]) / run["null"][0], "--", lw=0.7,
                    color=style["color"])  # fmt: skip
        ax.plot([], [], "--", color=COLOURS["muted"], lw=0.7, label="null, to scale at k = 0")
        ax.set_xlabel("planted exceptions k")
        ax.set_ylabel(r"LLC $\hat\lambda$")
        ax.legend()
    save(figure, "planting")


def mixtures() -> None:
    """Claim 6: loss and LLC along straight mixtures."""
    found = common.kept("mixtures")
    with sheet(PAGE, 2.4, "Straight mixtures of a memorising and a grokked network.") as figure:
        axes = figure.subplots(1, 3, sharex=True)
        for name, run in found.items():
            mixed, style = run["mixed"], look(name)
            share = np.array(mixed["share"])
            axes[0].plot(share, np.maximum(column(mixed["train_loss"]), 1e-7), **style)
            axes[1].plot(share, column(mixed["test_accuracy"]), **style)
            axes[2].errorbar(share, column(mixed["llc"]), 2 * column(mixed["mcse"]), **style)
        axes[0].set_yscale("log")
        axes[2].set_yscale("log")
        plain_ticks(axes[2].yaxis)
        for ax, words in zip(axes, ("training loss (nats)", "held-out accuracy",
                                    r"LLC $\hat\lambda$"), strict=True):  # fmt: skip
            ax.set_ylabel(words)
            ax.set_xlabel("share of the grokked network")
        axes[1].legend()
    save(figure, "mixtures")


def similarity() -> None:
    """Claim 5: barriers and representations between checkpoints of one run."""
    from matplotlib.colors import LogNorm

    found = common.kept("barriers")["matrix"]
    steps = [f"{s / 1000:g}k" if s >= 2000 else str(s) for s in found["steps"]]
    heights = np.maximum(np.array(found["barrier"], float), 1e-4)
    alike = np.array(found["cka"]["unembedding"], float)
    with sheet(PAGE, 3.0, "Barriers and similarity between checkpoints.") as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        top = max(1.0, np.nanmax(heights))
        image = left.imshow(heights, norm=LogNorm(1e-4, top), cmap="magma_r")
        figure.colorbar(image, ax=left, label="barrier (nats); lightest: at most 1e-4", shrink=0.8)
        image = right.imshow(alike, vmin=0, vmax=1, cmap="viridis")
        figure.colorbar(image, ax=right, label="linear CKA of the logits", shrink=0.8)
        for ax in (left, right):
            ax.set_xticks(range(len(steps)), steps, rotation=90, fontsize=6)
            ax.set_yticks(range(len(steps)), steps, fontsize=6)
            ax.set_xlabel("training step")
        left.set_ylabel("training step")
    save(figure, "similarity")


def transformer() -> None:
    """The published transformer: accuracy, frequencies, LLC."""
    found = common.kept("transformer")
    with sheet(PAGE, 4.6, "The published transformer over training.") as figure:
        first, second, third = figure.subplots(3, 1, sharex=True, height_ratios=[1, 1.3, 1.3])
        curves = found["curves"]
        for colour, part in zip((COLOURS["main"], COLOURS["second"]), ("train", "test"),
                                strict=True):  # fmt: skip
            words = {"train": "training pairs", "test": "held-out pairs"}[part]
            first.plot(curves["step"], curves[f"{part}_accuracy"], color=colour, label=words)
        first.set_ylabel("accuracy")
        first.legend(loc="center right")
        circuits = found["circuits"]
        rows = np.array(circuits["amplitudes"])
        for colour, birth in zip(CYCLE, circuits["births"], strict=False):
            place = circuits["frequencies"].index(birth["frequency"])
            second.plot(circuits["steps"], rows[:, place], color=colour,
                        label=f"k = {birth['frequency']}")  # fmt: skip
            second.plot(birth["step"], birth["amplitude"] / 2, "o", ms=3, color=colour)
        second.set_ylabel("amplitude $A_k$ (nats)")
        second.legend(loc="upper left", ncols=2)
        for colour, (gamma, run) in zip(CYCLE, found["llc"].items(), strict=False):
            steps = np.array(run["step"])
            third.errorbar(steps, column(run["llc"]), 2 * column(run["mcse"]), marker="o", ms=2,
                           color=colour, lw=0.9, label=f"LLC, γ = {gamma}")  # fmt: skip
            third.plot(steps, column(run["null"]), "--", color=colour, lw=0.7,
                       label=f"null, γ = {gamma}")  # fmt: skip
        third.set_yscale("log")
        third.set_ylabel(r"LLC $\hat\lambda$ and null")
        third.legend(loc="lower left", ncols=2, fontsize=6.5)
        third.set_xlim(0, curves["step"][-1])
        thousands(third)
    save(figure, "transformer")
