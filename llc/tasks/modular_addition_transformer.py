"""Addition modulo 113 by a one-layer transformer: the network whose algorithm is known.

Tokens a, b and = ; one attention layer of 4 heads of width 32, a ReLU layer of 512 units, no layer
norm, embedding and unembedding untied; 226,816 parameters. Trained by AdamW with weight decay 1
on all of 30 % of the pairs at once, the loss in float64: in float32 its gradient vanishes once
the pairs are memorised. Nanda et al. 2023 (arXiv 2301.05217), section 3 and appendix A.
"""

import io
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llc.checkpoints import save_checkpoint
from llc.errors import InputError
from llc.files import write_whole
from llc.params import stream_seed
from llc.symmetry import Heads, Offset, Units
from llc.task import Task
from llc.tasks.modular_addition import Data, make_data, measure

__all__ = ["Transformer", "make_pairs", "task", "train"]

WIDTH = 128
HEADS = 4
HIDDEN = 512
SHARE = 0.3
LEARNING_RATE = 1e-3
DECAY = 1.0
BETAS = (0.9, 0.98)
WARM_UP = 10
STATE = ".training.pt"
KEEP_EVERY = 500
SYMMETRIES = (
    Units(["up.weight", "up.bias"], ["down.weight"], "relu", name="hidden units"),
    Heads("query.weight", "key.weight", "value.weight", "output.weight", HEADS, name="heads"),
    Units(
        [("embedding.weight", 1), ("position.weight", 1), "output.weight", "down.weight",
         "down.bias"],
        ["query.weight", "key.weight", "value.weight", "up.weight", "unembedding.weight"],
        "linear", name="residual stream's basis",
    ),
    Offset(("embedding.weight", 1), [("position.weight", 1)], name="token or position"),
    Offset(("unembedding.weight", 1), name="all logits together", preserves="loss"),
)  # fmt: skip
"""Without layer norm nothing singles out a basis of the residual stream."""


class Transformer(nn.Module):
    """Logits over p + 1 tokens at the token =, in float64: ``(batch, 2)`` → ``(batch, p + 1)``.

    Only the last position is ever read, whose query is one vector; keys and values of the other
    two depend on a number and its place alone. They are tabulated, 2p + 1 rows, and looked up: the
    same function as a transformer over three tokens, at a fifth of its cost.
    """

    def __init__(self, prime: int) -> None:
        super().__init__()
        self.prime = prime
        self.embedding = nn.Embedding(prime + 1, WIDTH)
        self.position = nn.Embedding(3, WIDTH)
        self.query = nn.Linear(WIDTH, WIDTH, bias=False)
        self.key = nn.Linear(WIDTH, WIDTH, bias=False)
        self.value = nn.Linear(WIDTH, WIDTH, bias=False)
        self.output = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, HIDDEN)
        self.down = nn.Linear(HIDDEN, WIDTH)
        self.unembedding = nn.Linear(WIDTH, prime + 1, bias=False)

    def forward(self, pairs: Tensor) -> Tensor:
        """Return logits."""
        numbers, places = self.embedding.weight[:-1], self.position.weight
        last = self.embedding.weight[-1] + places[2]
        rows = torch.cat([numbers + places[0], numbers + places[1], last[None]])
        keys = self.key(rows).unflatten(-1, (HEADS, -1))
        values = self.value(rows).unflatten(-1, (HEADS, -1))
        query = self.query(last).unflatten(-1, (HEADS, -1))
        scores = (keys * query).sum(-1) / query.shape[-1] ** 0.5
        equals = torch.full_like(pairs[:, 0], 2 * self.prime)
        seen = torch.stack([pairs[:, 0], pairs[:, 1] + self.prime, equals], 1)
        attention = scores[seen].softmax(1)
        stream = last + self.output((attention[..., None] * values[seen]).sum(1).flatten(1))
        stream = stream + self.down(F.relu(self.up(stream)))
        return self.unembedding(stream).double()


def make_pairs(prime: int = 113, seed: int = 0, random_labels: bool = False) -> Data:
    """Split all p² pairs, 30 % to train on.

    Raises:
        InputError: ``prime`` is below 5.
    """
    return make_data(prime, seed, random_labels, share=SHARE)


def task(prime: int = 113, seed: int = 0, random_labels: bool = False) -> Task:
    """Return the task on its training pairs, the model freshly initialised.

    Args:
        prime: p; pairs are those of numbers below it.
        seed: of the initial weights, the split of the pairs, and random labels.
        random_labels: targets drawn at random, of which nothing can be understood.
    """
    data = make_pairs(prime, seed, random_labels)
    name = f"addition modulo {prime}, transformer" + (", random labels" if random_labels else "")
    return Task(
        _initialised(prime, seed), data.train, "cross_entropy", name=name,
        readings={"test": data.test}, symmetries=SYMMETRIES,
    )  # fmt: skip


def train(
    folder: Path,
    *,
    steps: int,
    save_at: list[int],
    prime: int = 113,
    seed: int = 0,
    random_labels: bool = False,
    report: Callable[[int], None] = lambda _: None,
) -> None:
    """Train and write a checkpoint, with losses and accuracies, at each given step.

    Every 500 steps the state of the training goes to ``.training.pt`` beside the checkpoints, so
    that the same call goes on where an earlier one stopped; the batch is all pairs, and no random
    number is drawn after the start, so that both ways end at the same weights.

    Args:
        folder: where the checkpoints go.
        steps: of AdamW.
        save_at: steps to save at.
        prime: p.
        seed: of initial weights, split and random labels.
        random_labels: targets drawn at random, for a control.
        report: called with the number of steps done.

    Raises:
        InputError: ``.training.pt`` belongs to another training, or cannot be read.
    """
    data = make_pairs(prime, seed, random_labels)
    model = _initialised(prime, seed)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=DECAY, betas=BETAS, fused=True
    )
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(step / WARM_UP, 1.0))
    parts = {"model": model, "optimiser": optimiser, "warm_up": warm_up}
    key = [prime, seed, int(random_labels)]
    folder.mkdir(parents=True, exist_ok=True)
    done = _go_on(folder / STATE, key, parts)
    inputs, targets = data.train
    wanted = set(save_at)
    if done == 0 and 0 in wanted:
        save_checkpoint(folder, 0, model.state_dict(), measure(model, data))
    for step in range(done + 1, steps + 1):
        optimiser.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimiser.step()
        warm_up.step()
        if step in wanted:
            save_checkpoint(folder, step, model.state_dict(), measure(model, data))
        if step % KEEP_EVERY == 0 or step == steps:
            _keep(folder / STATE, key, step, parts)
        report(step)


def _keep(path: Path, key: list[int], step: int, parts: dict) -> None:
    state = {name: part.state_dict() for name, part in parts.items()}
    buffer = io.BytesIO()
    torch.save({"key": key, "step": step, **state}, buffer)
    write_whole(path, buffer.getvalue())


def _go_on(path: Path, key: list[int], parts: dict) -> int:
    """Put back what was kept; return the step it was kept at."""
    if not path.exists():
        return 0
    try:
        kept = torch.load(path, weights_only=True)
    except Exception as error:
        raise InputError(f"{path} cannot be read: delete it to train from the start") from error
    if kept["key"] != key:
        raise InputError(
            f"{path} is of another training (prime, seed, random labels {kept['key']}, not "
            f"{key}): give another folder"
        )
    for name, part in parts.items():
        part.load_state_dict(kept[name])
    return kept["step"]


def _initialised(prime: int, seed: int) -> Transformer:
    """Draw as published: N(0, 1/128), the unembedding N(0, 1/(p + 1)); biases zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "initialisation", 0))
        model = Transformer(prime)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                size = prime + 1 if name == "unembedding.weight" else WIDTH
                nn.init.normal_(parameter, std=size**-0.5)
    return model
