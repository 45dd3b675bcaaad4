"""Linear regression in context by a small transformer: stages of learning at the size of a CPU.

Each sequence has a task of its own, w ~ N(0, 1) in D dimensions, x ~ N(0, 1), y = w·x + noise, and
the tokens x_1, y_1, …, x_K; at each x_k the transformer, which has seen the pairs before, predicts
y_k (Garg et al. 2022, arXiv 2208.01066; Raventós et al. 2023, arXiv 2306.15063). Hoogland et al.
2024 (arXiv 2402.02364) follow the LLC of one, three times as large, through training.
"""

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llc.checkpoints import save_checkpoint
from llc.errors import InputError
from llc.files import write_whole
from llc.params import stream_seed
from llc.task import Task

__all__ = [
    "InContextRegression",
    "checkpoint_steps",
    "draw_sequences",
    "ridge_loss",
    "ridge_predictions",
    "task",
    "train",
]

DIMENSION, PAIRS = 4, 8
WIDTH, HEADS, HIDDEN, LAYERS = 32, 4, 64, 2
NOISE_VARIANCE = 0.125
BATCH = 128
STEPS = 10_000
LEARNING_RATE = 1e-3
DECAY = 1e-2
WARM_UP = 100
EVALUATION = 4096
FAR = 3.0
"""How many times as long as in training the tasks of the loss out of distribution are."""
RESUME = "resume.state"
FIRST, RATIO = 10, 2000 ** (1 / 59)


class Block(nn.Module):
    """Causal attention and a ReLU layer, each added to what comes in, after LayerNorm."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.before_hidden = nn.LayerNorm(width)
        self.hidden_in = nn.Linear(width, hidden)
        self.hidden_out = nn.Linear(hidden, width)

    def forward(self, x: Tensor, later: Tensor) -> Tensor:
        """Return the stream after this block, ``(batch, tokens, width)``; ``later`` is hidden."""
        batch, tokens, width = x.shape
        parts = self.attention_in(self.before_attention(x))
        # Plain products and a softmax, which vmap takes over chains as they are.
        q, k, v = parts.view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        seen = torch.softmax(scores.masked_fill(later, -math.inf), -1) @ v
        x = x + self.attention_out(seen.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.hidden_out(torch.relu(self.hidden_in(self.before_hidden(x))))


class InContextRegression(nn.Module):
    """Predictions of each y from the pairs before it, ``(batch, K, D + 1)`` → ``(batch, K)``.

    The last column of the inputs holds y; y_k is not seen where it is predicted.
    """

    later: Tensor

    def __init__(self, dimension: int = DIMENSION, pairs: int = PAIRS, width: int = WIDTH) -> None:
        super().__init__()
        self.embedding = nn.Linear(dimension + 1, width)
        self.positions = nn.Parameter(torch.randn(2 * pairs - 1, width) / math.sqrt(width))
        self.blocks = nn.ModuleList(Block(width, HEADS, HIDDEN) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)
        tokens = 2 * pairs - 1
        mask = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        self.register_buffer("later", mask, persistent=False)

    def forward(self, pairs: Tensor) -> Tensor:
        """Return predictions."""
        x, y = pairs[..., :-1], pairs[..., -1:]
        tokens = torch.stack(
            [torch.cat([torch.zeros_like(y), x], -1), torch.cat([y, torch.zeros_like(x)], -1)], 2
        )
        # The last y predicts nothing.
        stream = self.embedding(tokens.flatten(1, 2)[:, :-1]) + self.positions
        for block in self.blocks:
            stream = block(stream, self.later)
        return self.head(self.norm(stream[:, ::2])).squeeze(-1)


def draw_sequences(
    count: int, generator: torch.Generator, *, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Draw sequences and their targets, shapes ``(count, K, D + 1)`` and ``(count, K)``.

    ``scale`` is the length of the tasks w against those of training.
    """
    w = scale * torch.randn(count, DIMENSION, 1, generator=generator)
    x = torch.randn(count, PAIRS, DIMENSION, generator=generator)
    noise = torch.randn(count, PAIRS, generator=generator)
    y = (x @ w).squeeze(-1) + math.sqrt(NOISE_VARIANCE) * noise
    return torch.cat([x, y.unsqueeze(-1)], -1), y


def ridge_predictions(inputs: Tensor) -> Tensor:
    """Predict each y by ridge regression on the pairs before it, ``(batch, K)``.

    With the noise's variance as its penalty it is the posterior mean under w ~ N(0, 1): no
    predictor of the prefix has a lower expected square error (Raventós et al. 2023).
    """
    x, y = inputs[..., :-1].double(), inputs[..., -1:].double()
    penalty = NOISE_VARIANCE * torch.eye(x.shape[-1], dtype=x.dtype)
    found = [torch.zeros(len(x), dtype=x.dtype)]
    for k in range(1, x.shape[1]):
        seen, now = x[:, :k], x[:, k]
        moments = seen.transpose(1, 2) @ seen + penalty
        w = torch.linalg.solve(moments, seen.transpose(1, 2) @ y[:, :k])
        found.append((now.unsqueeze(1) @ w).flatten())
    return torch.stack(found, 1).to(inputs.dtype)


def ridge_loss(seed: int = 0) -> float:
    """Return the loss of `ridge_predictions` on the sequences on which `train` measures its own."""
    inputs, targets = draw_sequences(EVALUATION, _generator(seed, "evaluation"))
    return ((ridge_predictions(inputs) - targets) ** 2).double().mean().item()


def task(seed: int = 0, sequences: int = 1024) -> Task:
    """Return the task on a fixed set of sequences, the model freshly initialised.

    Training never sees them: its own are drawn afresh at every step. The loss of a sequence is the
    square error averaged over positions.

    Args:
        seed: of the initial weights and the sequences.
        sequences: n, at least 2.

    Raises:
        InputError: fewer than 2 sequences.
    """
    if sequences < 2:
        raise InputError(f"sequences is {sequences}, expected a whole number of at least 2")
    data = draw_sequences(sequences, _generator(seed, "data"))
    return Task(_initialised(seed), data, "mse", name="in-context regression")


def checkpoint_steps(steps: int = STEPS) -> list[int]:
    """Return steps evenly in log step from 10 on, 18 a decade, and the last.

    They do not depend on how long the run is: a longer one has those of a shorter one.
    """
    count = math.ceil(math.log(max(steps, 2), RATIO))
    grid = {round(FIRST * RATIO**j) for j in range(count)}
    return sorted({step for step in grid if step < steps} | {steps})


def train(
    folder: Path,
    *,
    steps: int = STEPS,
    save_at: Sequence[int] | None = None,
    seed: int = 0,
    report: Callable[[int], None] | None = None,
) -> None:
    """Train from scratch by AdamW and write a checkpoint at each given step.

    Every batch is new, so that training loss and population loss are one and the same: as
    ``train_loss`` it is measured on 4,096 further sequences, with ``loss_at_1`` … ``loss_at_8`` by
    position, ``ood_loss`` for tasks w three times as long, and ``weight_norm``. A run that was
    killed goes on from its last checkpoint to the same numbers. Deterministic in its arguments on
    one machine; global random state is neither read nor left changed.

    Args:
        folder: where the checkpoints go.
        steps: of AdamW, 128 sequences each; the rate is 1e-3 after a warm-up of 100 steps.
        save_at: steps to save at; `checkpoint_steps` chooses unless given.
        seed: of the initial weights and of all sequences.
        report: called with the number of steps done.
    """
    wanted = set(checkpoint_steps(steps) if save_at is None else save_at)
    model = _initialised(seed)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=DECAY, fused=True
    )
    plan = {"steps": steps, "save_at": sorted(wanted), "seed": seed}
    for step in range(_resume(folder, plan, model, optimiser) + 1, steps + 1):
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, step / WARM_UP)
        # A stream for each step: going on at a step needs nothing from those before.
        inputs, targets = draw_sequences(BATCH, _generator(seed, "batches", step))
        optimiser.zero_grad()
        ((model(inputs) - targets) ** 2).mean().backward()
        optimiser.step()
        if step in wanted:
            save_checkpoint(folder, step, model.state_dict(), _measure(model, seed))
            _keep(folder, plan, step, model, optimiser)
        if report is not None and (step % 50 == 0 or step == steps):
            report(step)
    (folder / RESUME).unlink(missing_ok=True)


@torch.no_grad()
def _measure(model: nn.Module, seed: int) -> dict[str, float]:
    """Losses on sequences that are neither trained on nor the task's."""
    inputs, targets = draw_sequences(EVALUATION, _generator(seed, "evaluation"))
    by_position = ((model(inputs) - targets) ** 2).double().mean(0)
    far, wanted = draw_sequences(EVALUATION, _generator(seed, "far"), scale=FAR)
    squares = sum(p.double().square().sum().item() for p in model.parameters())
    return {
        "train_loss": by_position.mean().item(),
        "ood_loss": ((model(far) - wanted) ** 2).double().mean().item(),
        **{f"loss_at_{k}": value.item() for k, value in enumerate(by_position, 1)},
        "weight_norm": squares**0.5,
    }


def _keep(folder: Path, plan: dict[str, Any], step: int, model: nn.Module, optimiser: Any) -> None:
    """Write what training needs to go on; its name is no checkpoint's."""
    buffer = io.BytesIO()
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
    torch.save({"plan": plan, "step": step, **state}, buffer)
    write_whole(folder / RESUME, buffer.getvalue())


def _resume(folder: Path, plan: dict[str, Any], model: nn.Module, optimiser: Any) -> int:
    """Take up a run of the same plan where it was; return the steps it has behind it."""
    path = folder / RESUME
    if not path.is_file():
        return 0
    kept = torch.load(path, weights_only=True)
    if kept["plan"] != plan:
        return 0
    model.load_state_dict(kept["model"])
    optimiser.load_state_dict(kept["optimiser"])
    return int(kept["step"])


def _initialised(seed: int) -> InContextRegression:
    """Build the model with torch's default initialisation, drawn from a stream of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "initialisation", 0))
        return InContextRegression()


def _generator(seed: int, purpose: str, number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(stream_seed(seed, purpose, number))
