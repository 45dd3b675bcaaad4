"""The loss around w*: functional, paired with its baseline, for one chain or many at once.

An unpaired baseline is the estimator's largest avoidable noise, so every batch has the loss
of *the same* batch at w* subtracted. Where the loss gives per-example values those at w*
are tabulated once, so that pairing is free; otherwise the batch is evaluated at w* as well.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.utils._pytree import tree_map

from llc import losses
from llc.data import number_of_examples, take
from llc.errors import InputError
from llc.params import Layout
from llc.task import Task

__all__ = ["Evaluation", "LossSurface"]

CHUNK = 4096
PROBE = 8


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
        device: where to compute; None keeps the model's own.

    Attributes:
        layout: how D sampled weights lie in one vector.
        centre: w*, shape ``(D,)``.
        baseline: L(w*), over all data.
        size: n, number of examples, or None for a potential.
        chance: loss of a guess blind to the inputs, or None where unknown.
        per_example: whether the loss gives per-example values.
        vectorised: whether chains are evaluated in one `torch.func.vmap` call; some models
            cannot be (see ``why_not_vectorised``), and take one chain after another.

    Raises:
        InputError: no trainable parameter, non-finite weights or loss, a loss of the wrong
            shape, a model that is not deterministic, or a behavioural loss without meaning.
    """

    def __init__(
        self,
        task: Task,
        *,
        behavioural: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        model = copy.deepcopy(task.model).eval()
        trainable = {k: p for k, p in model.named_parameters() if p.requires_grad}
        if not trainable:
            raise InputError(
                f"{type(model).__name__} has no parameter that needs a gradient: nothing to "
                "sample; set requires_grad=True on the parameters whose LLC you want"
            )
        self.device = torch.device(device or next(iter(trainable.values())).device)
        model.to(self.device)
        self._data = None if task.data is None else _move(task.data, self.device)
        self.size = None if self._data is None else number_of_examples(self._data)
        self._loss = None if task.loss is None else losses.resolve(task.loss)
        self._objective = _Objective(model, task, self._loss)
        params = {
            k: p.detach() for k, p in self._objective.named_parameters() if p.requires_grad
        }
        _check_finite(params)
        self.layout = Layout.of(params)
        self.centre = self.layout.flatten(params)
        self._check_determinism()
        if behavioural:
            self._use_own_outputs()
        self.chance = self._chance()
        self.per_example, self._table, self.baseline = self._tabulate()
        self.vectorised, self.why_not_vectorised = self._try_vmap()

    def evaluate(self, displacement: Tensor, index: Tensor | None) -> Evaluation:
        """Evaluate rise, its subsampling noise and the gradient.

        Args:
            displacement: δ = w − w*, shape ``(chains, D)``.
            index: examples of each chain's batch, shape ``(chains, batch)``, or None for all.
        """
        if self.vectorised:
            batch, table, dims = self._batch(index)
            paired = partial(self._paired, everything=index is None)
            gradient, (rise, noise) = vmap(
                grad_and_value(paired, has_aux=True), in_dims=(0, *dims)
            )(displacement, batch, table)
            return Evaluation(rise, noise, gradient)
        parts = [
            self._evaluate_one(delta, None if index is None else index[c])
            for c, delta in enumerate(displacement)
        ]
        return Evaluation(*(torch.stack(column) for column in zip(*parts, strict=True)))

    @torch.no_grad()
    def rise(self, displacement: Tensor, index: Tensor | None) -> Tensor:
        """Evaluate L_B(w) − L_B(w*) alone, shape ``(chains,)``."""
        if self.vectorised:
            batch, table, dims = self._batch(index)
            paired = partial(self._paired, everything=index is None)
            return vmap(paired, in_dims=(0, *dims))(displacement, batch, table)[0]
        rows = [None] * len(displacement) if index is None else list(index)
        pairs = zip(displacement, rows, strict=True)
        return torch.stack([self._paired(delta, *self._one(row))[0] for delta, row in pairs])

    def _paired(
        self, delta: Tensor, batch: Any, table: Tensor | None, everything: bool
    ) -> tuple[Tensor, Tensor]:
        """One chain's rise and its subsampling variance; ``table`` holds the baseline, if any."""
        values = self._values(self.centre + delta, batch)
        if values.ndim == 0:
            if table is None:
                with torch.no_grad():
                    table = self._values(self.centre, batch)
            return values - table, torch.full_like(values, 0.0 if everything else torch.nan)
        rises = values - table
        if everything:
            return rises.mean(), torch.zeros_like(rises[0])
        count = len(rises)
        noise = rises.var() / count if count > 1 else torch.full_like(rises[0], torch.nan)
        return rises.mean(), noise.detach()

    def _values(self, weights: Tensor, batch: Any) -> Tensor:
        return functional_call(self._objective, self.layout.unflatten(weights), (batch,))

    def _batch(self, index: Tensor | None) -> tuple[Any, Tensor | None, tuple[Any, Any]]:
        """Batches, their baselines and the vmap dimensions of both."""
        if index is None:
            table = self._table if self.per_example else self._full_baseline
            return self._data, table, (None, None)
        table = self._table[index] if self.per_example else None
        return take(self._data, index), table, (0, None if table is None else 0)

    def _one(self, row: Tensor | None) -> tuple[Any, Tensor | None, bool]:
        batch, table, _ = self._batch(row)
        return batch, table, row is None

    def _evaluate_one(self, delta: Tensor, row: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            leaf = delta.detach().requires_grad_()
            rise, noise = self._paired(leaf, *self._one(row))
            (gradient,) = torch.autograd.grad(rise, leaf)
        return rise.detach(), noise.detach(), gradient

    @property
    def _full_baseline(self) -> Tensor:
        return torch.as_tensor(self.baseline, dtype=self._value_dtype, device=self.device)

    @torch.no_grad()
    def _tabulate(self) -> tuple[bool, Tensor | None, float]:
        """Whether the loss is per example, its table at w* if so, and its mean."""
        if self._data is None or self.size is None:
            value = self._values(self.centre, None)
            self._value_dtype = value.dtype
            if value.ndim != 0:
                raise InputError(
                    f"potential returned shape {tuple(value.shape)}, expected a scalar ()"
                )
            return False, None, _finite(value.item())
        chunks, weights = [], []
        for start in range(0, self.size, CHUNK):
            batch = take(self._data, slice(start, min(start + CHUNK, self.size)))
            value = self._values(self.centre, batch)
            count = number_of_examples(batch)
            if value.ndim > 1 or (value.ndim == 1 and len(value) != count):
                raise InputError(
                    f"the loss returned shape {tuple(value.shape)} for a batch of {count}, "
                    f"expected their mean () or one value per example ({count},)"
                )
            chunks.append(value)
            weights.append(count)
        self._value_dtype = chunks[0].dtype
        if chunks[0].ndim == 1:
            table = torch.cat(chunks)
            return True, table, _finite(table.double().mean().item())
        self._refuse_sums(chunks[0])
        mean = sum(c.double().item() * w for c, w in zip(chunks, weights, strict=True)) / self.size
        if len(chunks) > 1:
            return False, None, _finite(mean)
        return False, None, _finite(chunks[0].item())

    def _refuse_sums(self, once: Tensor) -> None:
        """A mean does not change when every example is given twice; a sum doubles."""
        count = min(self.size or 0, PROBE)
        index = torch.arange(count, device=self.device)
        once = self._values(self.centre, take(self._data, index)).item()
        twice = self._values(self.centre, take(self._data, torch.cat([index, index]))).item()
        if abs(once) > 1e-6 and abs(twice / once - 2) < 0.01:
            raise InputError(
                f"the loss adds up over the batch ({once:.4g} for {count} examples, {twice:.4g} "
                "for the same given twice), expected a mean or one value per example: divide "
                "by the batch size"
            )

    @torch.no_grad()
    def _check_determinism(self) -> None:
        batch = None
        if self._data is not None:
            batch = take(self._data, slice(0, min(self.size or 0, CHUNK)))
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            try:
                first = self._values(self.centre, batch)
                second = self._values(self.centre, batch)
            except InputError:
                raise
            except Exception as error:
                raise InputError(
                    f"the model or its loss failed on a batch of the data: {type(error).__name__}: "
                    f"{_one_line(error)}; check that the data are what the model expects"
                ) from error
        if not isinstance(first, Tensor) or not first.is_floating_point():
            raise InputError(
                f"the loss returned a {_kind(first)}, expected a floating-point tensor: its mean "
                "() or one value per example"
            )
        if not torch.allclose(first, second, rtol=1e-4, atol=1e-6, equal_nan=True):
            change = (first - second).abs().max().item()
            raise InputError(
                f"the loss at the same weights and examples changed by {change:.3g} between two "
                "passes: take out dropout that stays on in eval mode, batch norm that keeps "
                "updating, shuffling augmentation, or whatever else draws random numbers"
            )

    @torch.no_grad()
    def _use_own_outputs(self) -> None:
        loss = self._loss
        if loss is None or loss.behavioural is None or loss.targets_from is None:
            raise InputError(
                "behavioural=True needs loss='cross_entropy' or 'mse', whose targets can be the "
                f"checkpoint's own outputs; got {loss.name if loss else 'another kind of loss'}"
            )
        inputs = self._data[0]
        model = self._objective.model
        outputs = [model(inputs[i : i + CHUNK]) for i in range(0, len(inputs), CHUNK)]
        self._data = (inputs, loss.targets_from(torch.cat(outputs)))
        self._loss = self._objective.loss = loss.behavioural

    @torch.no_grad()
    def _chance(self) -> float | None:
        if self._loss is None or self._loss.chance is None:
            return None
        inputs, targets = self._data
        return self._loss.chance(self._objective.model(inputs[:1]), targets)

    def _try_vmap(self) -> tuple[bool, str | None]:
        """Compare two chains under vmap with the plain loop on a small batch; record why not."""
        index = None
        if self.size is not None:
            index = torch.arange(min(self.size, PROBE), device=self.device).expand(2, -1)
        delta = torch.zeros((2, self.layout.total), dtype=self.layout.dtype, device=self.device)
        self.vectorised = False
        plain = self.evaluate(delta, index)
        self.vectorised = True
        try:
            stacked = self.evaluate(delta, index)
        except Exception as error:
            return False, f"{type(error).__name__}: {_one_line(error)}"
        scale = plain.gradient.abs().max()
        if not torch.allclose(stacked.gradient, plain.gradient, rtol=1e-3, atol=1e-4 * scale.item()):
            return False, "gradients under vmap differ from those of the plain loop"
        return True, None


class _Objective(nn.Module):
    """The whole loss as one module, so that `functional_call` can swap the model's weights."""

    def __init__(self, model: nn.Module, task: Task, loss: losses.Loss | None) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self._batch_loss: Callable[[nn.Module, Any], Tensor] | None = task.batch_loss
        self._potential: Callable[[nn.Module], Tensor] | None = task.potential
        self.training = False

    def forward(self, batch: Any) -> Tensor:
        if self._potential is not None:
            return self._potential(self.model)
        if self._batch_loss is not None:
            return self._batch_loss(self.model, batch)
        inputs, targets = batch
        assert self.loss is not None
        return self.loss.function(self.model(inputs), targets)


def _move(data: Any, device: torch.device) -> Any:
    """Move every tensor of the data to a device."""
    return tree_map(lambda leaf: leaf.detach().to(device), data)


def _check_finite(params: dict[str, Tensor]) -> None:
    bad = [name.removeprefix("model.") for name, p in params.items() if not p.isfinite().all()]
    if bad:
        raise InputError(
            f"{len(bad)} tensors of the weights hold nan or infinity ({bad[0]} first): training "
            "diverged before this checkpoint; give an earlier one"
        )


def _finite(value: float) -> float:
    if value != value or value in (float("inf"), float("-inf")):
        raise InputError(
            f"the loss at w* is {value}: check the data and the loss at these weights"
        )
    return value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _kind(value: object) -> str:
    return f"{value.dtype} tensor" if isinstance(value, Tensor) else type(value).__name__
