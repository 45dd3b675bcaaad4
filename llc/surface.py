"""The loss around w*, paired with its baseline, for one chain or many at once.

An unpaired baseline is the estimator's largest avoidable noise, so every batch has the loss
of *the same* batch at w* subtracted. Where the loss gives per-example values those at w*
are tabulated once, so that pairing is free; otherwise the batch is evaluated at w* as well.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from llc.compiled import Compiled
from llc.data import take
from llc.derivative import Mismatch, check_derivative, find_mismatch
from llc.direct import NO_GRADIENT, DirectGradient, Part, gradient_of
from llc.errors import InputError
from llc.execution import Execution
from llc.memory import in_parts, plan
from llc.objective import Objective
from llc.task import Task
from llc.vectorising import why_not_vectorised

__all__ = ["Evaluation", "LossSurface"]

Result = TypeVar("Result")


class Evaluation(NamedTuple):
    """The loss surface at the chains' positions, all per chain.

    Attributes:
        rise: L_B(w) − L_B(w*), shape ``(chains,)``.
        noise: variance of that batch mean as an estimate of the data-set mean, ``(chains,)``:
            zero on the full batch, nan where the loss gives no per-example values.
        gradient: ∇L_B(w), shape ``(chains, D)``.
    """

    rise: Tensor
    noise: Tensor
    gradient: Tensor


class LossSurface:
    """L(w* + δ) − L(w*) and its gradient, on private copies of a task's model and data.

    Args:
        task: what to evaluate.
        behavioural: replace the targets by the model's own outputs at w*, which makes w* a
            minimum: cross-entropy becomes KL(softmax f(w*) ‖ softmax f(w)), mean square the
            squared distance of outputs.
        execution: where and how to compute.
        only: the part of the weights that is sampled, see `llc.parts`; the rest stays at w*.

    Attributes:
        layout: how D sampled weights lie in one vector.
        centre: w*, shape ``(D,)``.
        device: where everything is.
        size: n, number of examples, or None for a potential.
        baseline: L(w*), over all data.
        chance: loss of a guess blind to the inputs, or None where unknown.
        task_chance: the same of the task's own targets, which a behavioural loss replaces.
        local_rise: rise of the loss up to which chains count as local, or None where unknown.
        alike: share of what the loss averages over that looks like padding, and what it is.
        rounds: whether half precision takes part in the loss.
        vectorised: whether chains can be evaluated in one `torch.func.vmap` call; some models
            cannot be (see ``why_not_vectorised``), and take one chain after another.
        side_by_side: how many chains one call evaluates; 1 is the plain loop.
        part: most examples of one backward pass, where a batch does not fit; gradients are then
            summed over parts. None for no limit.
        copies: checkpoints that share a run, each with as many chains; see `llc.stack`.

    Raises:
        InputError: no trainable parameter, non-finite weights or loss, a loss of the wrong
            shape, a model that is not deterministic, or a behavioural loss without meaning.
    """

    def __init__(
        self,
        task: Task,
        *,
        behavioural: bool = False,
        execution: Execution | None = None,
        only: Sequence[str] | None = None,
    ) -> None:
        self.execution = execution or Execution()
        self._objective = Objective(
            task,
            behavioural=behavioural,
            device=self.execution.device,
            autocast=self.execution.autocast,
            only=only,
            quick=self.execution.compile != "off",
        )
        self.layout = self._objective.layout
        self.centre = self._objective.centre
        self.device = self._objective.device
        self.size = self._objective.size
        self.baseline = self._objective.baseline.mean
        self.chance = self._objective.chance
        self.task_chance = self._objective.task_chance
        self.local_rise = self._objective.local_rise
        self.alike = self._objective.alike
        self.rounds = self._objective.rounds
        self.copies = 1
        mode = self.execution.compile
        self._many = Compiled(self._evaluate_many, mode)
        self._single = Compiled(self._evaluate_one, mode)
        self.vectorised, self.why_not_vectorised = False, "one chain keeps a processor busy"
        if not self._objective.is_large:
            self.why_not_vectorised = why_not_vectorised(
                self._evaluate_one, self._evaluate_many, self._rise_of_many, self._objective
            )
            self.vectorised = self.why_not_vectorised is None
        check_derivative(self._objective, self._gradient_of)
        self.side_by_side = sys.maxsize if self.vectorised else 1
        self.part: int | None = None
        self._direct: DirectGradient | None = None

    def plan(self, chains: int, batch_size: int | None) -> str:
        """Decide how many chains run side by side; return it in words, with memory needed.

        As many as fit into the memory allowed; one after another where the model cannot be
        vectorised, and where it convolves on a CPU: a convolution with other weights for every
        chain takes a path there that is slower than the loop.
        """
        self.side_by_side, words = plan(
            self._objective,
            self.execution,
            chains,
            batch_size,
            None if self.vectorised else self.why_not_vectorised,
        )
        if self.side_by_side > 1:
            self.part = None
            return words
        self.part, more = in_parts(self._objective, self.execution, chains, batch_size)
        if self._direct is None and self._objective.is_large:
            self._direct = DirectGradient.of(self._objective)
        return words + more

    @property
    def lends(self) -> bool:
        """Whether `lend` can be used, as it should for large models once `plan` has been."""
        return self._direct is not None

    def lend(self, displacement: Tensor, row: Tensor | None) -> Evaluation:
        """Evaluate one chain, ``(D,)``, without a copy of its gradient.

        Returns:
            As `evaluate` for one chain; whatever is evaluated next overwrites the gradient.
        """
        assert self._direct is not None
        rise, noise = self._directly(displacement, row)
        return Evaluation(rise[None], noise[None], self._direct.gradient[None])

    def whole_batch(self) -> tuple[Any, Tensor | None]:
        """Return all data and their losses at w*: by example, their mean, or None."""
        batch, reference, _ = self._batch(None)
        return batch, reference

    @property
    def tabulated(self) -> bool:
        """Whether losses at w* are known example by example."""
        return self._objective.baseline.table is not None and not self._objective.is_half

    def buffers(self) -> list[Tensor]:
        """Return what the model holds beside its sampled weights."""
        module = self._objective.module
        frozen = [p for p in module.parameters() if not p.requires_grad]
        return [*module.buffers(), *frozen]

    def fits(self, chains: int) -> bool:
        """Whether so many chains run in one call, as a recorded step of all of them must."""
        return chains <= self.side_by_side and self.part is None

    @property
    def how(self) -> str:
        """How evaluations ran last, and what stood in the way of more."""
        program = self._many if self.side_by_side > 1 else self._single
        return "; ".join([program.how, *dict.fromkeys(program.notes)])

    def evaluate(self, displacement: Tensor, index: Tensor | None) -> Evaluation:
        """Evaluate rise, its subsampling noise and the gradient.

        Args:
            displacement: δ = w − w*, shape ``(chains, D)``.
            index: examples of each chain's batch, shape ``(chains, batch)``, or None for all.
        """
        chains, side = len(displacement), self.side_by_side
        if side > 1 and chains <= side:
            return Evaluation(*self._many(displacement, index))
        if self._direct is not None:
            gradient = torch.empty_like(displacement)
            pairs = []
            for chain, delta in enumerate(displacement):
                pairs.append(self._directly(delta, None if index is None else index[chain]))
                gradient[chain] = self._direct.gradient
            rises, noises = zip(*pairs, strict=True)
            return Evaluation(torch.stack(rises), torch.stack(noises), gradient)
        parts = []
        for start in range(0, chains, side):
            chunk = slice(start, start + side)
            if side > 1:
                rows = None if index is None else index[chunk]
                parts.append(self._many(displacement[chunk], rows))
            else:
                row = None if index is None else index[start]
                one = self._in_one_or_parts(displacement[start], row)
                parts.append(tuple(part.unsqueeze(0) for part in one))
        return Evaluation(*(torch.cat(column) for column in zip(*parts, strict=True)))

    @torch.no_grad()
    def losses(self, displacement: Tensor, index: Tensor) -> Tensor:
        """Return the losses of single examples at w* + displacement, ``(D,)`` → ``(examples,)``."""
        parts = index.to(self.device).split(self._objective.chunk)
        weights = self.centre + displacement
        found = [
            self._objective.values(weights, take(self._objective.data, part)) for part in parts
        ]
        return torch.cat(found).double().cpu()

    def mismatch_at(self, displacement: Tensor) -> Mismatch | None:
        """Compare the gradient with differences of the loss at a displacement, ``(D,)``."""
        return find_mismatch(self._objective, self._gradient_of, displacement)

    @torch.no_grad()
    def loss_at_start(self, row: Tensor | None) -> float:
        """Return the loss at w* of a batch, its examples ``(batch,)``; of all data for None."""
        return self._objective.values(self.centre, self._one(row)[0]).double().mean().item()

    def full_gradient(self) -> Tensor:
        """Return ∇L(w*) over all data, shape ``(1, D)``, a manageable part of them at a time."""
        start = torch.zeros((1, self.layout.total), dtype=self.layout.dtype, device=self.device)
        return self.gradient_in_parts(start, self._objective.chunk)

    def gradient_in_parts(self, displacement: Tensor, part: int) -> Tensor:
        """Return ∇L(w* + displacement) over all data, ``(1, D)``, so many examples at a time."""
        if self.size is None:
            return self.evaluate(displacement, None).gradient
        part = min(part, self.part or part)
        if self._direct is not None:
            rows = torch.arange(self.size, device=self.device).split(part)
            self._direct.evaluate(displacement[0], map(self._part_of, rows), self.size)
            return self._direct.gradient.clone()[None]
        total = torch.zeros_like(displacement, dtype=torch.float64)
        for begin in range(0, self.size, part):
            row = torch.arange(begin, min(begin + part, self.size), device=self.device)
            total += len(row) * self._evaluate_one(displacement[0], row)[2]
        return (total / self.size).to(displacement.dtype)

    def _evaluate_many(
        self, displacement: Tensor, index: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, reference, dims = self._batch(index)
        paired = partial(self._paired, everything=index is None)
        chains = vmap(grad_and_value(paired, has_aux=True), in_dims=(0, None, *dims))
        with sdpa_kernel(SDPBackend.MATH):
            gradient, (rise, noise) = chains(displacement, self.centre, batch, reference)
        return rise, noise, gradient

    @torch.no_grad()
    def rise(self, displacement: Tensor, index: Tensor | None) -> Tensor:
        """Evaluate L_B(w) − L_B(w*) alone, shape ``(chains,)``."""
        if self.side_by_side > 1 and len(displacement) <= self.side_by_side:
            return self._rise_of_many(displacement, index)
        rows = [None] * len(displacement) if index is None else list(index)
        pairs = zip(displacement, rows, strict=True)
        return torch.stack([self._rise_of_one(delta, row) for delta, row in pairs])

    def precise_rise(self, dtype: torch.dtype) -> Callable[[Tensor, Tensor | None], float]:
        """Return one chain's L_B(w) − L_B(w*) in a precision, as a function of w − w* and batch."""
        value, centre = self._objective.twin(dtype), self.centre.to(dtype)

        def rise(delta: Tensor, row: Tensor | None) -> float:
            total = 0.0
            for part in self._parts(row):
                batch, _, count = self._part_of(part)
                change = value(centre + delta, batch) - value(centre, batch)
                total += count * float(change)
            return total / self._count(row)

        return rise

    def _rise_of_one(self, delta: Tensor, row: Tensor | None) -> Tensor:
        rows = self._parts(row)
        if self._direct is not None:
            return self._direct.rises(delta, map(self._part_of, rows), self._count(row)).mean()
        if len(rows) == 1:
            return self._paired(delta, self.centre, *self._one(row))[0]
        parts = [self._rises(delta, self.centre, *self._one(part)[:2]) for part in rows]
        return torch.cat(parts).mean()

    def _rise_of_many(self, displacement: Tensor, index: Tensor | None) -> Tensor:
        batch, reference, dims = self._batch(index)
        paired = partial(self._paired, everything=index is None)
        with sdpa_kernel(SDPBackend.MATH):
            chains = vmap(paired, in_dims=(0, None, *dims))
            return chains(displacement, self.centre, batch, reference)[0]

    def _paired(
        self,
        delta: Tensor,
        centre: Tensor,
        batch: Any,
        reference: Tensor | None,
        everything: bool,
    ) -> tuple[Tensor, Tensor]:
        """One chain's rise and its subsampling variance; ``reference`` is the loss at w*."""
        rises = self._rises(delta, centre, batch, reference)
        if rises.ndim == 0:
            return rises, torch.full_like(rises, 0.0 if everything else torch.nan).detach()
        return rises.mean(), _noise_of(rises, everything)

    def _rises(self, delta: Tensor, centre: Tensor, batch: Any, reference: Tensor | None) -> Tensor:
        """Losses less those at w*, by example or their mean."""
        values = self._objective.values(centre + delta, batch)
        if reference is None:
            with torch.no_grad():
                # One copy of the centre a chain: vmap then takes the path, and the rounding, of
                # the values themselves.
                there = centre + torch.zeros_like(delta)
                reference = self._objective.values(there, batch)
        return values - reference

    def _batch(self, index: Tensor | None) -> tuple[Any, Tensor | None, tuple[Any, Any]]:
        """Batches, their losses at w* where tabulated, and the vmap dimensions of both."""
        data, baseline = self._objective.data, self._objective.baseline
        if self._objective.is_half:
            # A loss tabulated in another batch shape is rounded otherwise, by more than it rises.
            return data if index is None else take(data, index), None, (_each(index), None)
        if index is None:
            if baseline.table is not None:
                return data, baseline.table, (None, None)
            mean = torch.as_tensor(baseline.mean, dtype=baseline.dtype, device=self.device)
            return data, mean, (None, None)
        if baseline.table is None:
            return take(data, index), None, (0, None)
        return take(data, index), baseline.table[index], (0, 0)

    def _one(self, row: Tensor | None) -> tuple[Any, Tensor | None, bool]:
        batch, reference, _ = self._batch(row)
        return batch, reference, row is None

    def _evaluate_one(self, delta: Tensor, row: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        def differentiated(leaf: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            rise, noise = self._paired(leaf, self.centre, *self._one(row))
            if not rise.requires_grad:
                raise InputError(NO_GRADIENT)
            gradient = gradient_of(rise, leaf)
            return rise.detach(), noise.detach(), gradient

        return self._at_leaf(delta, differentiated)

    def _gradient_of(self, delta: Tensor, row: Tensor | None) -> Tensor:
        return self._evaluate_one(delta, row)[2]

    def _at_leaf(self, delta: Tensor, function: Callable[[Tensor], Result]) -> Result:
        """Call a function of δ, as a leaf of a graph, while the model stands at w* + δ."""
        with torch.enable_grad():
            leaf = delta.detach().requires_grad_()
            there = self.layout.unflatten(self.centre + leaf)
            return self._objective.during(there, partial(function, leaf))

    def _parts(self, row: Tensor | None) -> list[Tensor | None]:
        """A batch's examples in parts that fit; one part, as it was given, where all do."""
        size = self.size or 0
        if self.part is None or (size if row is None else len(row)) <= self.part:
            return [row]
        row = torch.arange(size, device=self.device) if row is None else row
        return list(row.split(self.part))

    def _count(self, row: Tensor | None) -> int:
        return (self.size or 1) if row is None else len(row)

    def _part_of(self, row: Tensor | None) -> Part:
        batch, reference, _ = self._batch(row)
        return batch, reference, self._count(row)

    def _directly(self, delta: Tensor, row: Tensor | None) -> tuple[Tensor, Tensor]:
        """Rise and its subsampling variance of one chain, whose gradient is where it stays."""
        assert self._direct is not None
        parts = map(self._part_of, self._parts(row))
        rises = self._direct.evaluate(delta, parts, self._count(row))
        if rises.ndim == 0:
            return rises, torch.full_like(rises, 0.0 if row is None else torch.nan)
        return rises.mean(), _noise_of(rises, row is None)

    def _in_one_or_parts(self, delta: Tensor, row: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluate one chain; where its batch does not fit, add up the gradients of parts."""
        rows = self._parts(row)
        if len(rows) == 1:
            rise, noise, gradient = self._single(delta, row)
            return rise, noise, gradient
        found, total = [], torch.zeros_like(delta)
        for part in rows:
            batch, reference, _ = self._one(part)

            def differentiated(
                leaf: Tensor, batch: Any = batch, reference: Tensor | None = reference
            ) -> tuple[Tensor, Tensor]:
                rises = self._rises(leaf, self.centre, batch, reference)
                return rises.detach(), gradient_of(rises.sum(), leaf)

            some, gradient = self._at_leaf(delta, differentiated)
            total += gradient
            found.append(some)
        rises = torch.cat(found)
        return rises.mean(), _noise_of(rises, row is None), total / len(rises)


def _each(index: Tensor | None) -> int | None:
    """The vmap dimension of a batch: one for each chain, or the same data for all."""
    return None if index is None else 0


def _noise_of(rises: Tensor, everything: bool) -> Tensor:
    """Variance of a batch's mean as an estimate of that of all data; 0 where these are all."""
    if everything:
        return torch.zeros_like(rises[0]).detach()
    count = len(rises)
    return (rises.var() / count if count > 1 else torch.full_like(rises[0], torch.nan)).detach()
