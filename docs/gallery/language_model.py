"""A small language model over training, and a control on shuffled tokens: training, and the figure.

    python docs/gallery/language_model.py train runs/language
    rlct trace 'hf:runs/language/text@step{…}' --task hf:runs/language/text@step2048 … --out …
    python docs/gallery/language_model.py draw runs/language

The page beside this file says with which settings, and how the control is estimated.
"""

import argparse
import csv
import io
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from llc import Trajectory, find_transitions, load_weights, plot
from llc.files import write_folder, write_whole
from llc.language import huggingface
from llc.plot.figures import COLOURS, PAGE, plain_ticks, sheet
from llc.plot.trajectory import settings_line
from llc.surface import LossSurface

RUNS = ("text", "shuffled")
VOCABULARY, LENGTH = 512, 33
SHAPE = {
    "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 192, "max_position_embeddings": LENGTH - 1, "vocab_size": VOCABULARY,
}  # fmt: skip
BATCH, RATE, WARM = 64, 3e-3, 20
SAVE_AT = tuple(round(2048 / 1.5**k) for k in reversed(range(14)))
HELD_OUT = 1024
COLUMNS = (
    "step", "llc", "mcse", "virial", "rhat", "ess", "saturation", "null", "null_se",
    "sampled_loss", "weight_norm", "verdict", "reasons",
)  # fmt: skip


def tokenize() -> np.ndarray:
    """Modules of Python's standard library, by name, as ids of a byte-level BPE of their own."""
    from tokenizers import ByteLevelBPETokenizer

    library = Path(sysconfig.get_paths()["stdlib"])
    texts = [p.read_text("utf-8", errors="replace") for p in sorted(library.glob("*.py"))]
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=VOCABULARY, show_progress=False)
    return np.concatenate([part.ids for part in tokenizer.encode_batch(texts)])


def rows_of(ids: np.ndarray) -> np.ndarray:
    """Cut into sequences, in an order of their own; the first are held out."""
    rows = ids[: len(ids) // LENGTH * LENGTH].reshape(-1, LENGTH)
    return np.random.default_rng(0).permutation(rows).astype(np.int64)


def entropies(rows: np.ndarray) -> tuple[float, float]:
    """Of a token, and of a token given the one before, in nats, by counts in the sequences."""
    pairs = np.zeros((VOCABULARY, VOCABULARY))
    np.add.at(pairs, (rows[:, :-1].ravel(), rows[:, 1:].ravel()), 1)
    joint = pairs / pairs.sum()
    before, after = joint.sum(1, keepdims=True), joint.sum(0)

    def mean(weight: np.ndarray, p: np.ndarray) -> float:
        return float(-(weight * np.log(p, out=np.zeros_like(p), where=p > 0)).sum())

    given = np.divide(joint, before, out=np.zeros_like(joint), where=before > 0)
    return mean(after, after), mean(joint, given)


def loss_of(network: nn.Module, rows: Tensor) -> Tensor:
    logits = network(rows[:, :-1], use_cache=False).logits
    return nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


def train(folder: Path) -> None:
    """Write FOLDER/RUN/stepN and tokens of both runs; the held-out ones apart, for estimates."""
    ids = tokenize()
    shuffled = np.random.default_rng(1).permutation(ids)
    for name, run in zip(RUNS, (ids, shuffled), strict=True):
        rows = rows_of(run)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", rows[:HELD_OUT])
        np.save(folder / f"{name}-train.npy", rows[HELD_OUT:].astype(np.uint16))
        if not (folder / name / f"step{SAVE_AT[-1]}").exists():
            _train(folder / name, torch.from_numpy(rows[HELD_OUT:]))


def _train(folder: Path, rows: Tensor) -> None:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar a checkpoint, across that of the training
    torch.manual_seed(0)
    network = GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE, bos_token_id=0, eos_token_id=0)).train()
    count = sum(p.numel() for p in network.parameters())
    print(f"{folder.name}: {count:,} weights, {rows.numel():,} tokens")
    optimiser = torch.optim.AdamW(network.parameters(), RATE, (0.9, 0.95), weight_decay=0.1)
    generator = torch.Generator().manual_seed(1)
    for step in tqdm(range(1, SAVE_AT[-1] + 1), desc="training", mininterval=1.0):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(step / WARM, 1.0)
        loss = loss_of(network, rows[torch.randint(len(rows), (BATCH,), generator=generator)])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        if step in SAVE_AT:
            write_folder(folder / f"step{step}", network.save_pretrained)


def table(folder: Path, runs: list[Trajectory]) -> list[dict[str, Any]]:
    """Join estimates and losses of both networks, a row a checkpoint; write them beside it."""
    rows: list[dict[str, Any]] = []
    for name, result in zip(RUNS, runs, strict=True):
        drawn = np.load(folder / f"{name}-train.npy").astype(np.int64)
        # `train_loss` of the run is that of the task's data, which here are held out.
        task = huggingface.task(folder / name / f"step{SAVE_AT[-1]}", drawn[:HELD_OUT])
        seen = dict(zip(("unigram", "bigram"), entropies(drawn), strict=True))
        result.to_csv(folder / f"{name}.csv")
        with (folder / f"{name}.csv").open() as file:
            for row in csv.DictReader(file):
                at = task.at(load_weights(folder / name / f"step{row['step']}"))
                losses = {"train_loss": LossSurface(at).baseline, "test_loss": row["train_loss"]}
                kept = {key: row[key] for key in COLUMNS}
                rows.append({"run": name} | kept | {k: f"{float(v):.5f}" for k, v in losses.items()}
                            | {k: f"{v:.5f}" for k, v in seen.items()})  # fmt: skip
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(folder / "language-model.csv", buffer.getvalue().encode())
    return rows


def draw(folder: Path) -> None:
    text, shuffled = (Trajectory.load(folder / f"llc-{name}") for name in RUNS)
    rows = table(folder, [text, shuffled])
    caption = (
        "GPT-NeoX trained on Python's standard library, and on the same tokens shuffled "
        "(control): LLC with 90 % intervals and prior-only null, and training loss with entropies "
        f"of single tokens and of pairs; {settings_line(text)}."
    )
    with sheet(PAGE, 4.0, caption) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.5, 1])
        plot.trajectory(text, above, control=shuffled, transitions=find_transitions(text))
        above.legend(loc="center right")
        above.set_xlabel("")
        _losses(below, rows)
        plain_ticks(below.xaxis)
    print("\n".join(map(str, plot.save(figure, folder / "figures" / "language-model.png"))))


def _losses(ax: Any, rows: list[dict[str, Any]]) -> None:
    for name, colour, marker in zip(RUNS, ("main", "second"), "os", strict=True):
        own = [row for row in rows if row["run"] == name]
        steps, losses = ([float(row[c]) for row in own] for c in ("step", "train_loss"))
        ax.plot(steps, losses, marker=marker, ms=2.2, color=COLOURS[colour])
    lines = (("unigram", "entropy of a token"), ("bigram", "entropy given the one before"))
    for name, place in lines:
        level = float(rows[0][name])
        ax.axhline(level, color="black", lw=0.7, ls=":", zorder=0)
        ax.annotate(place, (0.0, level), xycoords=("axes fraction", "data"), xytext=(3, -2),
                    textcoords="offset points", va="top", fontsize=7)  # fmt: skip
    ax.set_xlabel("training step")
    ax.set_ylabel("loss (nats a token)")


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["train", "draw"])
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    {"train": train, "draw": draw}[given.what](given.folder)
