"""A transformer of attention alone on repeated text: induction heads, and when they form.

The text is that of `llc.tasks.repeated_text`. On the first pass of a piece nothing beats the
chain's own probabilities; on later ones the next token is known to who finds the present one in the
text: a head that looks one token back, and in the layer above one that looks for what it found, an
induction head (Elhage et al. 2021, "A mathematical framework for transformer circuits"; Olsson et
al. 2022, arXiv 2209.11895).
"""

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llc.checkpoints import save_checkpoint
from llc.errors import InputError
from llc.files import write_whole
from llc.params import stream_seed
from llc.symmetry import Heads
from llc.task import Task
from llc.tasks.repeated_text import LENGTH, TOKENS, draw_sequences, generator_of, rules

__all__ = ["AttentionOnly", "losses", "task", "train"]

WIDTH, HEADS, LAYERS = 48, 4, 2
BATCH, LEARNING_RATE, DECAY, WARM_UP = 64, 1e-3, 1e-2, 100
EVALUATION = 1024
RESUME = "resume.state"


class Attention(nn.Module):
    """Causal attention, added to what comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH, bias=False)
        self.key = nn.Linear(WIDTH, WIDTH, bias=False)
        self.value = nn.Linear(WIDTH, WIDTH, bias=False)
        self.output = nn.Linear(WIDTH, WIDTH, bias=False)

    def pattern(self, x: Tensor, later: Tensor) -> Tensor:
        """Return how much each token looks at each, ``(batch, heads, tokens, tokens)``."""
        q, k = (f(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for f in (self.query, self.key))
        # Plain products and a softmax, which vmap takes over chains as they are.
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        return torch.softmax(scores.masked_fill(later, -math.inf), -1)

    def forward(self, x: Tensor, later: Tensor) -> Tensor:
        """Return the stream after this layer."""
        v = self.value(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        return x + self.output((self.pattern(x, later) @ v).transpose(1, 2).flatten(2))


class AttentionOnly(nn.Module):
    """Logits of the next token at each token, ``(batch, 31)`` → ``(batch, 24, 31)``."""

    later: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, WIDTH)
        self.position = nn.Embedding(LENGTH - 1, WIDTH)
        self.layers = nn.ModuleList(Attention() for _ in range(LAYERS))
        self.unembedding = nn.Linear(WIDTH, TOKENS, bias=False)
        mask = torch.ones(LENGTH - 1, LENGTH - 1, dtype=torch.bool).triu(1)
        self.register_buffer("later", mask, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits."""
        stream = self.embedding(tokens) + self.position.weight
        for layer in self.layers:
            stream = layer(stream, self.later)
        return self.unembedding(stream).transpose(1, 2)


def task(seed: int = 0, sequences: int = 1024) -> Task:
    """Return the task on a fixed set of sequences, the model freshly initialised.

    Training never sees them: its own are drawn afresh at every step. The loss of a sequence is the
    cross-entropy averaged over its 31 predictions.

    Args:
        seed: of the chain, the initial weights and the sequences.
        sequences: n, at least 2.

    Raises:
        InputError: fewer than 2 sequences.
    """
    if sequences < 2:
        raise InputError(f"sequences is {sequences}, expected a whole number of at least 2")
    tokens, _ = draw_sequences(sequences, generator_of(seed, "data"), rules(seed))
    data = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    return Task(
        _initialised(seed),
        data,
        "cross_entropy",
        name="repeated text",
        symmetries=[_heads(k) for k in range(LAYERS)],
    )


def train(
    folder: Path,
    *,
    steps: int,
    save_at: Sequence[int],
    seed: int = 0,
    report: Callable[[int], None] = lambda _: None,
) -> None:
    """Train from scratch by AdamW and write a checkpoint at each given step.

    Every batch is new. `losses` on 1,024 further sequences are saved as ``first_loss`` and
    ``later_loss``. A run that was killed goes on from its last checkpoint to the same numbers.
    Global random state is neither read nor left changed.

    Args:
        folder: where the checkpoints go.
        steps: of AdamW, 64 sequences each; the rate is 1e-3 after a warm-up of 100 steps.
        save_at: steps to save at.
        seed: of the chain, the initial weights and all sequences.
        report: called with the number of steps done.
    """
    model, chain = _initialised(seed), rules(seed)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=DECAY, fused=True
    )
    plan = {"steps": steps, "save_at": sorted(save_at), "seed": seed}
    done, kept = 0, folder / RESUME
    state = torch.load(kept, weights_only=True) if kept.is_file() else {}
    if state.get("plan") == plan:
        done = state["step"]
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
    for step in range(done + 1, steps + 1):
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, step / WARM_UP)
        # A stream for each step: going on at a step needs nothing from those before.
        tokens, _ = draw_sequences(BATCH, generator_of(seed, "batches", step), chain)
        optimiser.zero_grad()
        F.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]).backward()
        optimiser.step()
        if step in save_at:
            save_checkpoint(folder, step, model.state_dict(), _measure(model, seed))
            buffer = io.BytesIO()
            own = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save({"plan": plan, "step": step, **own}, buffer)
            write_whole(kept, buffer.getvalue())
        report(step)
    kept.unlink(missing_ok=True)


@torch.no_grad()
def losses(model: nn.Module, tokens: Tensor, piece: Tensor) -> tuple[float, float]:
    """Return mean losses on the first pass, and where what comes next has been seen before.

    The first token of the second pass belongs to neither: where it stands is the piece's length.
    """
    found = F.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:], reduction="none")
    place = torch.arange(1, LENGTH)
    first, later = place < piece[:, None], place > piece[:, None]
    return found[first].mean().item(), found[later].mean().item()


def _measure(model: nn.Module, seed: int) -> dict[str, float]:
    """Losses on sequences that are neither trained on nor the task's."""
    drawn = draw_sequences(EVALUATION, generator_of(seed, "evaluation"), rules(seed))
    return dict(zip(("first_loss", "later_loss"), losses(model, *drawn), strict=True))


def _heads(layer: int) -> Heads:
    q, k, v, o = (f"layers.{layer}.{n}.weight" for n in ("query", "key", "value", "output"))
    return Heads(q, k, v, o, HEADS, name=f"layer{layer}")


def _initialised(seed: int) -> AttentionOnly:
    """Build the model with torch's default initialisation, drawn from a stream of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "initialisation", 0))
        return AttentionOnly()
