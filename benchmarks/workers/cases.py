"""What every worker measures: models, data and settings; pure torch, for any rival's interpreter.

Settings only have to be the same everywhere and to let chains move without leaving: n_beta is
n/ln n, and the step about a fifth of what is stable. The transformer starts untrained, since a
step costs the same at any weights; the others are at a minimum, so that their losses can be
compared between samplers.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AdditionMlp(nn.Module):
    """Addition modulo p: embedding 12, two maps to 48 summed, GELU, unembedding without bias."""

    def __init__(self, prime: int = 53) -> None:
        super().__init__()
        self.embedding = nn.Embedding(prime, 12)
        self.left = nn.Linear(12, 48)
        self.right = nn.Linear(12, 48)
        self.unembedding = nn.Linear(48, prime, bias=False)

    def forward(self, pairs: Tensor) -> Tensor:
        hidden = self.left(self.embedding(pairs[:, 0])) + self.right(self.embedding(pairs[:, 1]))
        return self.unembedding(F.gelu(hidden))


class AdditionTransformer(nn.Module):
    """The one-layer transformer of Nanda et al. 2023 (arXiv 2301.05217): a, b, = to the sum.

    Width 128, 4 heads of 32, 512 ReLU units, no layer norm, untied; the answer is read at "=".
    """

    def __init__(self, prime: int = 113, width: int = 128, heads: int = 4, hidden: int = 512):
        super().__init__()
        tokens, self.heads = prime + 1, heads
        self.embedding = nn.Parameter(torch.randn(tokens, width) / width**0.5)
        self.positions = nn.Parameter(torch.randn(3, width) / width**0.5)
        for name in ("query", "key", "value", "output"):
            setattr(self, name, nn.Linear(width, width, bias=False))
        self.into = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, width)
        self.unembedding = nn.Linear(width, tokens, bias=False)
        self.register_buffer("future", torch.ones(3, 3, dtype=torch.bool).triu(1))

    def forward(self, tokens: Tensor) -> Tensor:
        stream = self.embedding[tokens] + self.positions
        query, key, value = (
            part(stream).unflatten(-1, (self.heads, -1)).transpose(-2, -3)
            for part in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        seen = scores.masked_fill(self.future, -torch.inf).softmax(-1) @ value
        stream = stream + self.output(seen.transpose(-2, -3).flatten(-2))
        stream = stream + self.out(F.relu(self.into(stream)))
        return self.unembedding(stream[..., -1, :])


@dataclass(frozen=True)
class Case:
    """A model at w*, its data, and settings that all samplers share."""

    name: str
    model: nn.Module
    data: tuple[Tensor, Tensor]
    loss: str
    batch_size: int
    gamma: float
    step_size: float

    @property
    def n_beta(self) -> float:
        return len(self.data[0]) / math.log(len(self.data[0]))

    @property
    def mean_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        return getattr(F, self.loss if self.loss == "cross_entropy" else "mse_loss")

    @property
    def baseline(self) -> float:
        with torch.no_grad():
            return self.mean_loss(self.model(self.data[0]), self.data[1]).item()

    def rise(self, losses: Tensor) -> list[float]:
        """Per chain, n_beta times the mean rise of an unpaired trace ``(chains, steps)``."""
        return (self.n_beta * (losses.double().mean(1) - self.baseline)).tolist()


def make(name: str) -> Case:
    """Build a case, the same in every process."""
    torch.manual_seed(0)
    if name.startswith("mlp"):
        batch_size = int(name.removeprefix("mlp-"))
        model, data = AdditionMlp(), _sums(53, 1123)
        _memorise(model, data)
        return Case(name, model, data, "cross_entropy", batch_size, 10.0, 1e-4)
    if name == "linear-500":
        layers = [nn.Linear(20, 20, bias=False) for _ in range(5)]
        for layer in layers:
            nn.init.orthogonal_(layer.weight)
        model, inputs = nn.Sequential(*layers), torch.randn(10_000, 20)
        return Case(name, model, (inputs, model(inputs).detach()), "mse", 500, 1.0, 3e-4)
    if name == "transformer-512":
        pairs, sums = _sums(113, 3830)
        tokens = torch.cat([pairs, torch.full((len(pairs), 1), 113)], 1)
        return Case(name, AdditionTransformer(), (tokens, sums), "cross_entropy", 512, 10.0, 1e-5)
    raise ValueError(f"no case {name!r}")


CASES = ("mlp-64", "mlp-512", "linear-500", "transformer-512")


def serve(sample: Callable[..., list[float]]) -> None:
    """Answer requests on stdin, one JSON object a line, until it closes.

    ``sample(case, chains, steps, **options)`` returns, per chain, n_beta times the mean rise of
    the loss over its steps. A request for a new shape (case, chains) is run once untimed first.
    """
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # rivals print; only answers go to stdout
    case, shape = None, None
    for line in sys.stdin:
        request = json.loads(line)
        if case is None or case.name != request["case"]:
            case = make(request["case"])
        chains, steps, options = request["chains"], request["steps"], request.get("options", {})
        try:
            if shape != (case.name, chains):
                torch.compiler.reset()  # else dynamo goes eager after eight shapes
                sample(case, chains, steps, **options)
                shape = (case.name, chains)
            wall, cpu = time.perf_counter(), time.process_time()
            rise = sample(case, chains, steps, **options)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            answer = {"seconds": wall, "cpu": cpu, "rise": rise}
        except NotImplementedError as error:
            answer = {"refused": str(error)}
        print(json.dumps(answer), file=answers)


def _sums(prime: int, count: int) -> tuple[Tensor, Tensor]:
    numbers = torch.arange(prime)
    pairs = torch.cartesian_prod(numbers, numbers)[torch.randperm(prime**2)[:count]]
    return pairs, pairs.sum(1) % prime


def _memorise(model: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=2e-4)
    for _ in range(600):
        optimiser.zero_grad()
        F.cross_entropy(model(data[0]), data[1]).backward()
        optimiser.step()
