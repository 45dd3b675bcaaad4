"""The loss of a sharded model, every rank at its own part of a batch."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from llc import losses
from llc.data import number_of_examples, repeated, take
from llc.errors import InputError
from llc.meaning import check_outputs
from llc.objective import one_attention_path
from llc.sampling.kernel import StepInfo
from llc.sharded.shards import Noise, Shards
from llc.soundness import PROBE
from llc.surface import Evaluation
from llc.task import Task

__all__ = ["ShardedLoss"]

CHUNK = 4096


class ShardedLoss:
    """nβ(L_B(w* + δ) − L_B(w*)) and its gradient, ranks sharing the batch's examples.

    Args:
        task: its model is the sharded one; data and loss.
        shards: the weights.
        n_beta: nβ.
        behavioural: replace the targets by the model's own outputs at w*.
        at_once: most examples a rank passes through the model at once.

    Attributes:
        size: n.
        baseline: L(w*), over all data.
        chance: loss of a guess blind to the inputs, or None where unknown.
        task_chance: the same of the task's own targets.
        alike: share of examples that are one and the same.

    Raises:
        InputError: a loss without one value per example, or one that is not deterministic.
    """

    def __init__(
        self, task: Task, shards: Shards, n_beta: float, behavioural: bool, at_once: int
    ) -> None:
        self.shards, self.n_beta = shards, n_beta
        self._task, self._at_once = task, at_once
        self._data = tree_map(lambda leaf: leaf.detach().to(shards.device), task.data)
        self.size = number_of_examples(self._data)
        self._loss = None if task.loss is None else losses.resolve(task.loss, task.model)
        self.alike = (repeated(self._data), "examples are one and the same")
        if self._loss is not None:
            self._loss = losses.over_kept(self._loss, self._data[1])
            self._check_meaning(self._loss)
        self.task_chance = self._chance()
        if behavioural:
            self._use_own_outputs()
        self.chance = self._chance()
        everything = torch.arange(self.size, device=shards.device)
        self._check(everything[: 2 * PROBE * shards.ranks])
        self._table = self.losses_of(everything)
        self._tabulated = self._serves(everything[:PROBE])
        self.baseline = float(self._table.mean())
        if not self._table.isfinite().all():
            raise InputError(
                f"the loss at the checkpoint is {self.baseline}: check the data and the loss"
            )

    def evaluate(self, displacement: Tensor, index: Tensor | None) -> Evaluation:
        """Return this rank's part of an evaluation, in units of nβ.

        Args:
            displacement: δ, the local entries, ``(1, local)``.
            index: examples of the batch, ``(1, batch)``, the same on all ranks; None for all.

        Returns:
            Rise and noise hold sums of the local examples' loss differences and of their squares,
            to be added up by `whole`; the gradient's local entries are those of the whole batch.
        """
        rows = self._rows(index)
        before = None if self._tabulated else self._sums_at_centre(rows)
        self.shards.put(displacement[0])
        differences = []
        for part, weight in self._parts(rows):
            values = self._values(part)
            # FSDP takes the mean of gradients over ranks.
            (values.sum() * (weight * self.shards.ranks / len(rows))).backward()
            if weight:
                differences.append(values.detach().double())
        gradient = self.n_beta * self.shards.gradient()
        rises = self._paired(differences, rows, before)
        return Evaluation(rises.sum()[None], (rises**2).sum()[None], gradient[None])

    def rise(self, displacement: Tensor, index: Tensor | None) -> Tensor:
        """Evaluate nβ(L_B − L_B(w*)) alone, of all ranks together, ``(1,)``."""
        rows = self._rows(index)
        before = None if self._tabulated else self._sums_at_centre(rows)
        self.shards.put(displacement[0])
        rises = self._paired(self._values_of(rows), rows, before)
        return self.n_beta * self.shards.sum(rises.sum()[None]) / len(rows)

    def whole(self, info: StepInfo, batch: Tensor | None) -> StepInfo:
        """Add up over ranks what a kernel read off `evaluate`: one reduction of four numbers."""
        local = torch.cat([part.double() for part in info[:4]])
        rise, squares, pull, spread = self.shards.sum(local).unbind()
        count = self.size if batch is None else batch.shape[1]
        noise = torch.zeros_like(rise)
        if batch is not None:
            # Of a single example nobody knows: 0/0 is nan.
            among = torch.tensor(count * (count - 1.0), device=rise.device)
            noise = self.n_beta**2 * (squares - rise**2 / count) / among
        return StepInfo(
            (self.n_beta * rise / count)[None],
            noise[None],
            pull[None],
            spread[None],
            torch.ones_like(rise)[None],
        )

    @torch.no_grad()
    def losses_of(self, rows: Tensor) -> Tensor:
        """Return losses of single examples where the model is, on every rank, ``(rows,)``."""
        table = torch.zeros(len(rows), dtype=torch.float64, device=self.shards.device)
        found = self._values_of(rows)
        if found:
            mine = torch.arange(len(rows), device=rows.device).tensor_split(self.shards.ranks)
            table[mine[self.shards.rank]] = torch.cat(found)
        return self.shards.sum(table)

    def _rows(self, index: Tensor | None) -> Tensor:
        return torch.arange(self.size, device=self.shards.device) if index is None else index[0]

    def _parts(self, rows: Tensor) -> Iterator[tuple[Tensor, float]]:
        """Yield this rank's examples, and their weight: as many parts on every rank.

        A rank with fewer examples than others passes one through the model all the same, with a
        weight of zero, since gathering weights takes everybody.
        """
        mine = rows.tensor_split(self.shards.ranks)[self.shards.rank]
        most = -(-len(rows) // self.shards.ranks)
        for part in mine.tensor_split(-(-most // self._at_once)):
            yield (part, 1.0) if len(part) else (rows[:1], 0.0)

    @torch.no_grad()
    def _values_of(self, rows: Tensor) -> list[Tensor]:
        found = [(self._values(part).double(), weight) for part, weight in self._parts(rows)]
        self.shards.reshard()
        return [values for values, weight in found if weight]

    def _sums_at_centre(self, rows: Tensor) -> list[Tensor]:
        self.shards.put(torch.zeros_like(self.shards.centre))
        return self._values_of(rows)

    def _paired(self, values: list[Tensor], rows: Tensor, before: list[Tensor] | None) -> Tensor:
        """Loss differences of this rank's examples, ``(examples,)``."""
        if not values:
            return torch.zeros(0, dtype=torch.float64, device=self.shards.device)
        if before is not None:
            return torch.cat(values) - torch.cat(before)
        return (
            torch.cat(values) - self._table[rows.tensor_split(self.shards.ranks)[self.shards.rank]]
        )

    def _values(self, rows: Tensor) -> Tensor:
        batch: Any = take(self._data, rows)
        model = self.shards.model
        with one_attention_path():
            if self._task.batch_loss is not None:
                values = self._task.batch_loss(model, batch)
            else:
                assert self._loss is not None
                values = self._loss.function(model(batch[0]), batch[1])
        if values.shape != (len(rows),):
            raise InputError(
                f"the loss returned shape {tuple(values.shape)} for a batch of {len(rows)}, "
                f"expected one value per example ({len(rows)},), since ranks share a batch"
            )
        return values

    def _check(self, rows: Tensor) -> None:
        first, second = self.losses_of(rows), self.losses_of(rows)
        if not torch.allclose(first, second, rtol=1e-4, atol=1e-6, equal_nan=True):
            change = (first - second).abs().max().item()
            raise InputError(
                f"the loss at the same weights and examples changed by {change:.3g} between two "
                "passes: take out dropout that stays on in eval mode or whatever else draws "
                "random numbers"
            )

    def _serves(self, rows: Tensor) -> bool:
        """Whether losses at w* are the same in another batch, as in half precision they are not."""
        table = self._table[rows]
        return torch.allclose(self.losses_of(rows), table, rtol=1e-5, atol=1e-7)

    @torch.no_grad()
    def _outputs(self, inputs: Any) -> Tensor:
        """Return outputs where the model is; every rank passes the same inputs."""
        found = self.shards.model(inputs)
        self.shards.reshard()
        return found

    @torch.no_grad()
    def _check_meaning(self, loss: losses.Loss) -> None:
        """Refuse outputs and targets that are not what the loss's name says."""
        if loss.arrange is not None:
            inputs, targets = self._data
            check_outputs(loss, self._outputs(inputs[:PROBE]), targets, self._elsewhere(inputs))

    def _elsewhere(self, inputs: Any) -> Iterator[Tensor]:
        """Yield outputs of more examples, and those of the first at other weights."""
        yield self._outputs(inputs[: PROBE * PROBE])
        noise = Noise(self.shards, 0, "outputs", 0)
        for _ in range(2):
            self.shards.put(noise.normal()[0])
            found = self._outputs(inputs[:PROBE])
            self.shards.put(torch.zeros_like(self.shards.centre))
            yield found

    def _chance(self) -> float | None:
        if self._loss is None or self._loss.chance is None:
            return None
        inputs, targets = self._data
        return self._loss.chance(self._outputs(inputs[:PROBE]), targets)

    def _use_own_outputs(self) -> None:
        loss = losses.for_own_outputs(self._loss)
        inputs = self._data[0]
        parts = [self._outputs(part) for part in inputs.split(self._at_once)]
        reference, towards = losses.own_outputs(loss, torch.cat(parts), self._data[1])
        self._data, self._loss = (inputs, reference), towards
