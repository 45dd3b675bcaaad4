"""Induction heads and their refined LLCs: training, scores of heads, the page's figure.

    python docs/gallery/induction_heads.py train runs/induction
    rlct refine runs/induction/checkpoints --task induction-heads … --out runs/induction/refined
    python docs/gallery/induction_heads.py draw runs/induction

The page beside this file says with which settings. For another chain and other initial weights add
``--seed 1`` and take ``--task docs/gallery/induction_heads.py:second``.
"""

import argparse
import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from llc import Refined, plot
from llc.checkpoints import find_checkpoints
from llc.files import write_whole
from llc.plot.figures import CYCLE, PAGE, plain_ticks, sheet
from llc.plot.trajectory import settings_line
from llc.task import Task
from llc.tasks import induction_heads as ih
from llc.tasks import repeated_text as text

STEPS = 6000
SAVE_AT = (150, 500, 900, 1100, 1400, 1900, 2700, 4000, 6000)
SEQUENCES, SEED = 2048, 4321
SCORES = ("prefix", "present", "previous", "lag", "first_rise", "later_rise")
ROLES = {
    "prefix": ("induction", "#D55E00"), "previous": ("previous token", "#0072B2"),
    "lag": ("second rule", "#009E73"), "present": ("first rule", "#8C6BB1"),
}  # fmt: skip
MARKERS = "osD^"
HEADS = [f"layer{k}[{h}]" for k in range(ih.LAYERS) for h in range(ih.HEADS)]


def patterns(model: ih.AttentionOnly, tokens: Tensor, piece: Tensor) -> dict[str, Tensor]:
    """Where each head looks, shape ``(heads,)``, layer after layer.

    ``prefix``: attention paid to tokens that followed the present one on earlier passes, averaged
    over positions that have been seen before (prefix matching, Olsson et al. 2022, arXiv
    2209.11895); ``present``: to the present token; ``previous``: to the one before; ``lag``: to the
    one two before, from which the second rule takes the next.
    """
    here, there = torch.arange(text.LENGTH - 1)[:, None], torch.arange(text.LENGTH - 1)
    period = piece[:, None, None]
    follows = ((here + 1 - there) % period == 0) & (there >= 1) & (there <= here)
    matched = follows & (here >= period)
    stream = model.embedding(tokens[:, :-1]) + model.position.weight
    found: dict[str, list[Tensor]] = {name: [] for name in SCORES[:4]}
    for layer in model.layers:
        pattern = layer.pattern(stream, model.later)
        found["prefix"].append((pattern * matched[:, None]).sum((0, 2, 3)) / matched.any(2).sum())
        for name, back in (("present", 0), ("previous", 1), ("lag", text.LAG - 1)):
            found[name].append(pattern.diagonal(-back, 2, 3).mean((0, 2)))
        stream = layer(stream, model.later)
    return {name: torch.cat(values) for name, values in found.items()}


@contextmanager
def ablated(model: ih.AttentionOnly, layer: int, head: int) -> Iterator[None]:
    """Put the mean over sequences and positions in the place of what a head found."""

    def mean(_: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
        found = given[0].unflatten(-1, (ih.HEADS, -1)).clone()
        found[:, :, head] = found[:, :, head].mean((0, 1))
        return (found.flatten(-2),)

    hook = model.layers[layer].output.register_forward_pre_hook(mean)
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def scores(model: ih.AttentionOnly, chain: Tensor) -> list[dict[str, float]]:
    """Where heads look on random tokens repeated, and rises of the text's losses without each."""
    drawn = torch.Generator().manual_seed(SEED)
    found = patterns(model, *text.draw_sequences(SEQUENCES, drawn, None))
    own = text.draw_sequences(SEQUENCES, drawn, chain)
    losses = dict(zip(("first_loss", "later_loss"), ih.losses(model, *own), strict=True))
    rows = []
    for k in range(len(HEADS)):
        with ablated(model, *divmod(k, ih.HEADS)):
            first, later = ih.losses(model, *own)
        rise = {
            "first_rise": first - losses["first_loss"],
            "later_rise": later - losses["later_loss"],
        }
        rows.append({name: values[k].item() for name, values in found.items()} | rise | losses)
    return rows


def floors(chain: Tensor) -> tuple[float, float]:
    """What a predictor that knows the chain alone loses on the first pass, and on later ones."""
    drawn = torch.Generator().manual_seed(SEED)
    tokens, piece = text.draw_sequences(SEQUENCES, drawn, chain)
    found, place = text.chain_losses(tokens, chain), torch.arange(1, text.LENGTH)
    parts = (place < piece[:, None], place > piece[:, None])
    return tuple(found[part].mean().item() for part in parts)  # type: ignore[return-value]


def table(folder: Path, seed: int) -> list[dict[str, Any]]:
    """Join refined.csv and the scores, a row a head and checkpoint; write them beside it."""
    own = ih.task(seed, sequences=2)
    known = {
        c.step: scores(own.at(c.weights()).model, text.rules(seed))  # type: ignore[arg-type]
        for c in find_checkpoints(folder / "checkpoints")
    }
    with (folder / "refined" / "refined.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        measured = known[int(row["step"])][HEADS.index(row["part"])]
        row |= {name: f"{value:.4f}" for name, value in measured.items()}
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(folder / "induction-heads.csv", buffer.getvalue().encode())
    return rows


def role(rows: list[dict[str, Any]], head: str) -> tuple[str, str]:
    """Name what a head looks at most in the end."""
    last = max((row for row in rows if row["part"] == head), key=lambda row: int(row["step"]))
    return ROLES[max(ROLES, key=lambda name: float(last[name]))]


def draw(folder: Path, seed: int) -> None:
    rows, result = table(folder, seed), Refined.load(folder / "refined")
    caption = (
        f"Repeated text, two layers of four heads: losses, prefix matching, ablation and refined "
        f"LLC of each head over training; {settings_line(result, only=False)}."
    )
    with sheet(PAGE, 6.4, caption) as figure:
        above, below = figure.subfigures(2, 1, height_ratios=[2, 1.1])
        axes = above.subplot_mosaic("ab;cd")
        _losses(axes["a"], rows, floors(text.rules(seed)))
        for place, column, label in (
            ("b", "prefix", "prefix matching"),
            ("c", "later_rise", "rise of later loss without head"),
            ("d", "llc", r"refined LLC $\hat\lambda$ (90 %)"),
        ):
            _heads(axes[place], rows, column)
            axes[place].set_ylabel(label)
        handles, labels = axes["d"].get_legend_handles_labels()
        axes["c"].legend(handles, labels, loc="upper left", fontsize=6)
        plot.refined(result, below.subplots())
        for place in "abcd":
            axes[place].set_xscale("log")
            plain_ticks(axes[place].xaxis)
            axes[place].set_xlabel("training step")
    print("\n".join(map(str, plot.save(figure, folder / "figures" / "induction-heads.png"))))


def _losses(ax: Any, rows: list[dict[str, Any]], floors: tuple[float, float]) -> None:
    own = [row for row in rows if row["part"] == HEADS[0]]
    steps = [int(row["step"]) for row in own]
    for name, label, colour, floor in zip(
        ("first_loss", "later_loss"), ("first pass", "later passes"), CYCLE, floors, strict=False
    ):
        ax.plot(steps, [float(row[name]) for row in own], "o-", ms=3, color=colour, label=label)
        ax.axhline(floor, color=colour, lw=0.8, ls=":")
    ax.set_ylim(0)
    ax.set_ylabel("loss (nats)")
    ax.legend(title="dotted: the chain alone", title_fontsize=7)


def _heads(ax: Any, rows: list[dict[str, Any]], column: str) -> None:
    for k, head in enumerate(HEADS):
        own = [row for row in rows if row["part"] == head]
        name, colour = role(rows, head)
        layer, number = divmod(k, ih.HEADS)
        look = {"color": colour, "marker": MARKERS[number], "ms": 3, "lw": 1.0,
                "ls": "-" if layer else "--", "label": f"{head} {name}"}  # fmt: skip
        steps, values = ([float(row[c]) for row in own] for c in ("step", column))
        errors = [1.645 * float(row["mcse"]) for row in own] if column == "llc" else None
        ax.errorbar(steps, values, errors, elinewidth=0.7, **look)


def second() -> Task:
    return ih.task(seed=1)


def train(folder: Path, seed: int) -> None:
    with tqdm(total=STEPS, desc="training", mininterval=1.0) as bar:
        ih.train(
            folder / "checkpoints", steps=STEPS, save_at=SAVE_AT, seed=seed,
            report=lambda step: bar.update(step - bar.n),
        )  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["train", "draw"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    {"train": train, "draw": draw}[given.what](given.folder, given.seed)
