"""Linear networks: rational λ for any depth and rank, exact B where the teacher is zero."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from llc.task import Task
from llc.truths import eigenvalues, formulas
from llc.truths.truth import Expected, MakeTask, Truth

__all__ = ["LinearNet", "linear_net", "net_task", "reduced_rank", "two_layer_local"]

AOYAGI = "Aoyagi 2024, Neural Networks 172:106132, thm 1"


class LinearNet(nn.Module):
    """x → W_L ⋯ W_1 x without biases, built from its layers' weights, first layer first."""

    def __init__(self, layers: Sequence[Tensor]) -> None:
        super().__init__()
        self.layers = nn.ParameterList([nn.Parameter(layer.clone()) for layer in layers])

    def product(self) -> Tensor:
        """W_L ⋯ W_1, shape (outputs, inputs)."""
        result = self.layers[0]
        for layer in list(self.layers)[1:]:
            result = layer @ result
        return result

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs) → (batch, outputs)."""
        for layer in self.layers:
            x = x @ layer.T
        return x


def net_task(layers: Sequence[Tensor], name: str) -> MakeTask:
    """Make the task of a linear net at given layers, learning its own product.

    The population loss is E‖P(w)x − P*x‖² = ‖P(w) − P*‖² with x ~ N(0, 1); with n examples it is
    their mean, labels without noise.
    """

    def make(n: int | None, seed: int) -> Task:
        model = LinearNet(layers)
        teacher = model.product().detach().clone()

        def population_loss(m: Any) -> Tensor:
            return ((m.product() - teacher) ** 2).sum()

        if n is None:
            return Task(model, potential=population_loss, name=name)
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(formulas.whole("n", n, 2), teacher.shape[1], generator=generator)
        with torch.no_grad():
            y = model(x.to(teacher.dtype))

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            return ((outputs - targets) ** 2).sum(-1)

        return Task(model, (x.to(teacher.dtype), y), loss, name=name)

    return make


def linear_net(widths: Sequence[int], rank: int, seed: int = 0) -> Truth:
    """Deep linear net at a rank-exact teacher: every partial product of its layers has that rank.

    Layers are Q_s diag(σ, 0) Q_{s−1}ᵀ with shared random orthogonal Q_s and σ from .8 to 1.2, so
    that the coefficient at w* is the global one of that rank (`formulas.deep_linear`); with other
    layers of the same product it is larger. B is exact for one layer, and for two at rank 0.

    Args:
        widths: inputs, hidden widths, outputs.
        rank: of the teacher.
        seed: of the Q_s.

    Raises:
        InputError: widths or a rank that no such net has.
    """
    name = f"linear net {'-'.join(map(str, widths))}, rank {rank}"
    return _rank_exact(widths, rank, seed, name, AOYAGI)


def _rank_exact(widths: Sequence[int], rank: int, seed: int, name: str, citation: str) -> Truth:
    llc, multiplicity = formulas.deep_linear(widths, rank)
    generator = torch.Generator().manual_seed(seed)
    frames = [_orthogonal(width, generator) for width in widths]
    sigma = torch.linspace(0.8, 1.2, rank, dtype=torch.float64)
    layers = [(out[:, :rank] * sigma) @ into[:, :rank].T for into, out in pairwise(frames)]
    return Truth(
        name,
        llc,
        multiplicity,
        citation,
        net_task([layer.float() for layer in layers], name),
        sum(a * b for a, b in pairwise(widths)),
        _expected(tuple(widths), rank),
    )


def reduced_rank(inputs: int, hidden: int, outputs: int, rank: int, seed: int = 0) -> Truth:
    """Two-layer linear net (reduced-rank regression) at a rank-exact teacher.

    Raises:
        InputError: sizes or a rank that no such net has.
    """
    formulas.reduced_rank(inputs, hidden, outputs, rank)
    name = f"reduced rank {inputs}-{hidden}-{outputs}, rank {rank}"
    citation = "Aoyagi & Watanabe 2005, Neural Networks 18:924"
    return _rank_exact((inputs, hidden, outputs), rank, seed, name, citation)


def two_layer_local(
    inputs: int,
    hidden: int,
    outputs: int,
    rank_in: int,
    rank_out: int,
    rank: int,
    seed: int = 0,
) -> Truth:
    """Two-layer linear net at a point where the layers' ranks exceed their product's.

    The first layer has rank a, the second b, their product r; λ is `formulas.two_layer_local`, that
    of this point, at least the global one of rank r. A checkpoint that has
    not compressed looks like that.

    Raises:
        InputError: ranks that no two such matrices have.
    """
    llc, multiplicity = formulas.two_layer_local(inputs, hidden, outputs, rank_in, rank_out, rank)
    generator = torch.Generator().manual_seed(seed)
    into, middle, out = (_orthogonal(w, generator) for w in (inputs, hidden, outputs))
    first = middle[:, :rank_in] @ into[:, :rank_in].T
    # The second reads r directions that the first writes, and b − r that it leaves alone.
    read = [*range(rank), *range(rank_in, rank_in + rank_out - rank)]
    second = out[:, :rank_out] @ middle[:, read].T
    name = f"local {inputs}-{hidden}-{outputs}, ranks {rank_in}, {rank_out} → {rank}"
    return Truth(
        name,
        llc,
        multiplicity,
        "split of the directions that act at first order, then Aoyagi & Watanabe 2005",
        net_task([first.float(), second.float()], name),
        hidden * (inputs + outputs),
        _expected((inputs, hidden, outputs), 0) if rank_in + rank_out == 0 else None,
    )


def _expected(widths: tuple[int, ...], rank: int) -> Expected | None:
    if len(widths) == 2:
        count = widths[0] * widths[1]
        # ‖W − W*‖² has curvature 2 in every direction.
        return lambda n_beta, gamma: (count / 2 * 2 * n_beta / (2 * n_beta + gamma), 0.0)
    if len(widths) == 3 and rank == 0:
        inputs, hidden, outputs = widths
        return lambda n_beta, gamma: eigenvalues.zero_teacher(
            inputs, hidden, outputs, n_beta, gamma
        )
    return None


def _orthogonal(width: int, generator: torch.Generator) -> Tensor:
    noise = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(noise)[0]
