"""The sampled weights of a sharded model as this rank holds them, and their share of the noise."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard

from llc.errors import InputError
from llc.params import NoiseStreams

__all__ = ["BLOCK", "Noise", "Shards", "copied", "shard"]

BLOCK = 65_536
"""Numbers of one noise stream; nothing a user may change, since draws depend on it."""


def shard(model: nn.Module, mesh: DeviceMesh | None = None) -> nn.Module:
    """Shard a model in place with torch's FSDP2, ``torch.distributed.fsdp.fully_shard``.

    Every member of a ``ModuleList`` or ``Sequential`` that has weights is gathered by itself, the
    rest together: no rank ever holds more than its share, the rest and one such block.

    Args:
        model: the model; on the meta device to be given its weights afterwards, or with them.
        mesh: one-dimensional; over all ranks, on their GPUs if they have any, unless given.

    Returns:
        The same model.

    Raises:
        InputError: no process group has been initialised.
    """
    if not dist.is_initialized():
        raise InputError(
            "a sharded model needs a process group: start the script under torchrun and call "
            "torch.distributed.init_process_group() first"
        )
    if mesh is None:
        kind = "cuda" if "nccl" in dist.get_backend() else "cpu"
        mesh = init_device_mesh(kind, (dist.get_world_size(),))
    tied = _tied(model)
    for module in reversed(list(model.modules())):
        if not isinstance(module, nn.ModuleList | nn.Sequential):
            continue
        for block in module.children():
            own = set(block.parameters())
            plain = not isinstance(block, nn.ModuleList | nn.Sequential | FSDPModule)
            if own and plain and not own & tied:
                fully_shard(block, mesh=mesh)
    if not isinstance(model, FSDPModule):
        fully_shard(model, mesh=mesh)
    return model


def _tied(model: nn.Module) -> set[nn.Parameter]:
    """Weights that appear in several modules, which only their common parent may gather."""
    seen: set[nn.Parameter] = set()
    tied: set[nn.Parameter] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            (tied if parameter in seen else seen).add(parameter)
    return tied


class Piece(NamedTuple):
    """A tensor's part on this rank: entries ``start`` to ``stop`` of the tensor laid flat."""

    name: str
    parameter: DTensor
    size: int
    start: int
    stop: int


class Shards:
    """The sampled weights of a sharded model, this rank's entries in one vector.

    Args:
        model: as `shard` returns it, or sharded by the caller.

    Attributes:
        pieces: the tensors, in the model's order.
        total: D, of all ranks together.
        local: how many of them are here.
        centre: w*, the local entries.
        group: the ranks among which weights are shared.
        rank: of this process among them.
        ranks: how many there are.

    Raises:
        InputError: weights that are not sharded, or otherwise than along their first dimension.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        named = {n: p for n, p in model.named_parameters() if p.requires_grad}
        if not named:
            raise InputError(
                f"{type(model).__name__} has no parameter that needs a gradient: nothing to "
                "sample; set requires_grad=True on the parameters whose LLC you want"
            )
        self.pieces = tuple(_piece(name, parameter) for name, parameter in named.items())
        mesh = self.pieces[0].parameter.device_mesh
        self.group, self.ranks, self.rank = mesh.get_group(), mesh.size(), mesh.get_local_rank()
        self.total = sum(piece.size for piece in self.pieces)
        self.sizes = [piece.stop - piece.start for piece in self.pieces]
        self.local = sum(self.sizes)
        self.centre = self._flat(piece.parameter for piece in self.pieces)
        self.device, self.dtype = self.centre.device, self.centre.dtype
        finite = self.sum(torch.stack([(~self.centre.isfinite()).sum()]))
        if finite.item():
            raise InputError(
                f"{int(finite.item())} weights are nan or infinite: load a checkpoint whose "
                "training has not diverged"
            )

    def _flat(self, tensors: Iterator[Any]) -> Tensor:
        parts = [tensor.to_local().detach().reshape(-1) for tensor in tensors]
        return torch.cat(parts)

    @torch.no_grad()
    def put(self, displacement: Tensor) -> None:
        """Move the model to w* + displacement, the local entries, ``(local,)``."""
        there = (self.centre + displacement).split(self.sizes)
        for piece, values in zip(self.pieces, there, strict=True):
            local = piece.parameter.to_local()
            local.copy_(values.view_as(local))
        self.reshard()

    def reshard(self) -> None:
        """Forget gathered weights.

        After a forward pass without a backward one FSDP keeps some, and would go on with them
        though the shards have changed.
        """
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def gradient(self) -> Tensor:
        """Return the local entries of the gradient that a backward pass left, and forget it."""
        parts = []
        for piece, size in zip(self.pieces, self.sizes, strict=True):
            grad: Any = piece.parameter.grad
            piece.parameter.grad = None
            if grad is None:
                parts.append(torch.zeros(size, dtype=self.dtype, device=self.device))
            else:
                parts.append(grad.to_local().reshape(-1))
        return torch.cat(parts)

    def sum(self, values: Tensor) -> Tensor:
        """Add up over ranks, in double precision."""
        total = values.to(torch.float64)
        dist.all_reduce(total, group=self.group)
        return total

    def norm(self, vector: Tensor) -> Tensor:
        """Return the length of a vector of which each rank has its entries, ``()``."""
        return self.sum((vector.double() ** 2).sum()).sqrt()

    def gathered(self) -> Iterator[tuple[str, Tensor]]:
        """Yield name and value of one whole tensor after another, at w*."""
        for piece in self.pieces:
            yield piece.name, piece.parameter.full_tensor().detach()

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Give the model back as it was: weights, gradients, and mode of each of its modules."""
        modes = [(module, module.training) for module in self.model.modules()]
        grads = [piece.parameter.grad for piece in self.pieces]
        for piece in self.pieces:
            piece.parameter.grad = None
        self.model.eval()
        try:
            yield
        finally:
            self.put(torch.zeros_like(self.centre))
            for piece, grad in zip(self.pieces, grads, strict=True):
                piece.parameter.grad = grad
            for module, mode in modes:
                module.training = mode


def _piece(name: str, parameter: Any) -> Piece:
    if not isinstance(parameter, DTensor):
        raise InputError(
            f"{name} is not sharded: give a model that llc.sharded.shard or fully_shard went "
            "through as a whole, or a plain one, which is copied and sharded"
        )
    placement = parameter.placements
    if len(placement) != 1 or placement[0] != Shard(0):
        raise InputError(
            f"{name} is placed as {placement}, expected shards of the first dimension over one "
            "dimension of ranks, as fully_shard makes by itself"
        )
    if parameter.dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"{name} is {parameter.dtype}, far coarser than a Langevin step: shard weights in "
            "float32, and compute in bfloat16 through fully_shard(mp_policy=...)"
        )
    mesh = parameter.device_mesh
    rows, width = parameter.shape[0], math.prod(parameter.shape[1:])
    each = -(-rows // mesh.size())
    start = min(mesh.get_local_rank() * each, rows)
    stop = min(start + each, rows)
    assert parameter.to_local().numel() == (stop - start) * width
    return Piece(name, parameter, rows * width, start * width, stop * width)


def copied(model: nn.Module) -> nn.Module:
    """Return the model itself if it is sharded, else a sharded copy."""
    if any(isinstance(module, FSDPModule) for module in model.modules()):
        return model
    return shard(copy.deepcopy(model))


class Noise:
    """Standard normal numbers of one chain, the local entries of each tensor's.

    A tensor laid flat is cut into blocks of 65,536 numbers, each with a stream of its own by seed,
    purpose, name, block and chain. A rank draws the blocks it has a part in: what an entry is given
    depends neither on the number of ranks nor on where it lies.

    Args:
        shards: whose entries.
        seed: the user's.
        purpose: what the numbers are for.
        chain: number of the chain.
    """

    def __init__(self, shards: Shards, seed: int, purpose: str, chain: int) -> None:
        self._dtype = shards.dtype
        self._blocks: list[tuple[NoiseStreams, int, slice]] = []
        for piece in shards.pieces:
            for start in range(piece.start // BLOCK * BLOCK, piece.stop, BLOCK):
                stop = min(start + BLOCK, piece.size)
                part = slice(max(piece.start - start, 0), min(piece.stop, stop) - start)
                if part.start >= part.stop:
                    continue
                label = f"{purpose} {piece.name} {start // BLOCK}"
                stream = NoiseStreams(seed, label, 1, shards.device, first=chain)
                self._blocks.append((stream, stop - start, part))
        self._nothing = torch.zeros(1, 0, dtype=shards.dtype, device=shards.device)

    def normal(self) -> Tensor:
        """Draw the next vector, shape ``(1, local)``."""
        parts = [stream.normal(size, self._dtype)[:, part] for stream, size, part in self._blocks]
        return torch.cat([self._nothing, *parts], 1)
