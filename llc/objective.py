"""A task's loss as a function of one flat vector of weights, on private copies."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from llc import losses, onednn
from llc.data import number_of_examples, padded, repeated, take
from llc.errors import InputError
from llc.footprint import kept_bytes
from llc.meaning import check_outputs
from llc.params import Layout, NoiseStreams, PartialLayout
from llc.parts import restrict
from llc.precision import Twin, casts, raised
from llc.private import evaluated_copy
from llc.reweighted import Reweighted, recomputing_in_place
from llc.soundness import (
    PROBE,
    check_finite,
    check_kind,
    check_repeatable,
    couples_examples,
    finite,
    no_tensor,
    refuse_sums,
    usable,
)  # fmt: skip
from llc.task import Task

__all__ = ["Baseline", "Objective", "one_attention_path"]

Result = TypeVar("Result")

CHUNK = 4096
LOOK = 64
# What a pass over a chunk of the data may keep; the same on every machine, since the cut decides
# how losses are rounded.
MOST_KEPT = 2**31
# The same for large models. A tensor of more than 32 MB the C library returns to the system each
# time, and fetching its memory again takes longer than arithmetic on it.
MOST_KEPT_OF_LARGE = 2**27
# From so many weights on arithmetic is what takes time: nothing is gained from chains side by side.
LARGE = 2**22
# Outputs at w* are kept up to here as targets of behavioural losses, else computed anew each time.
MOST_OUTPUTS = 2**32


class Baseline:
    """The loss at w*.

    Attributes:
        mean: L(w*), over all data.
        table: per-example losses at w*, shape ``(n,)``, or None where the loss gives only means.
        dtype: of loss values.
    """

    def __init__(self, mean: float, table: Tensor | None, dtype: torch.dtype) -> None:
        self.mean, self.table, self.dtype = mean, table, dtype


class Objective:
    """Loss values of a batch at any weights.

    Args:
        task: model, data and loss; copied or only read.
        behavioural: replace the targets by the model's own outputs at w*.
        device: where to compute; None keeps the model's own.
        autocast: run the model in bfloat16 where torch's autocast does.
        only: the part of the weights that is sampled, see `llc.parts`; the rest stays at w*.
        quick: leave a large model's products to the library that is faster on this processor.

    Attributes:
        module: the whole loss as a module, weights at w*.
        is_large: whether the model is so large that one chain keeps a CPU busy.
        layout: how D sampled weights lie in one vector.
        centre: w*, shape ``(D,)``.
        data: the task's, on the device; None for a potential.
        size: n, number of examples; None for a potential.
        chunk: examples that a pass over all data takes at a time.
        rounds: whether half precision takes part in the loss.
        chance: loss of a guess blind to the inputs, or None where unknown.
        task_chance: the same of the task's own targets, which a behavioural loss replaces.
        baseline: the loss at w*.
        local_rise: rise of the loss up to which chains count as local, or None where unknown.
        alike: share of what the loss averages over that looks like padding, and what it is.
        differentiates: whether model or loss differentiate by themselves (energies' forces,
            residuals of differential equations), so that their values need a graph as well.

    Raises:
        InputError: as `llc.surface.LossSurface`.
    """

    def __init__(
        self,
        task: Task,
        *,
        behavioural: bool = False,
        device: torch.device | str | None = None,
        autocast: bool = False,
        only: Sequence[str] | None = None,
        quick: bool = False,
    ) -> None:
        first = next((p for p in task.model.parameters() if p.requires_grad), torch.empty(0))
        self.device = usable(device or first.device)
        model = evaluated_copy(task.model, self.device)
        trainable = {k: p for k, p in model.named_parameters() if p.requires_grad}
        check_kind(model, trainable)
        masks = {} if only is None else restrict(model, task.symmetries, only)
        model.to(self.device)
        self.autocast = autocast
        self.data: Any = None
        if task.data is not None:
            self.data = tree_map(self._placed, task.data)
        self.size = None if task.data is None else number_of_examples(self.data)
        self._loss = None if task.loss is None else losses.resolve(task.loss, task.model)
        self.alike = self._alike()
        if self._loss is not None and self.data is not None:
            self._loss = losses.over_kept(self._loss, self.data[1])
        self.module = _WholeLoss(model, task, self._loss)
        few = None if self.size is None else slice(0, min(self.size, PROBE))
        self.data = raised(self.module, self.data, few)
        self._loss = self.module.loss
        self._at = Reweighted(self.module)
        named = self.module.named_parameters()
        params = {k: p.detach() for k, p in named if p.requires_grad}
        check_finite(params)
        partial = any(mask is not None for mask in masks.values())
        masks = {f"model.{name}": mask for name, mask in masks.items()}
        self.layout = PartialLayout.of(params, masks) if partial else Layout.of(params)
        self.centre = self.layout.flatten(params)
        weights = sum(p.numel() for p in self.module.parameters())
        self.is_large = weights >= LARGE and self.device.type == "cpu"
        self._quick = quick and self.is_large and not autocast and onednn.is_faster()
        if self.is_large:
            del params, trainable
            self._share_centre()
        self._centred = {k: p.detach() for k, p in self.module.named_parameters()}
        self.chunk, self._anew, self.differentiates = CHUNK, False, False
        if self.size is not None:
            self.chunk = self._manageable(self.size)
        self._check_outputs()
        check_repeatable(self, PROBE if self.is_large else CHUNK)
        self.rounds = self.is_half or casts(
            lambda batch: self.values(self.centre, batch), self.data, few
        )
        self.task_chance = self._chance()
        if behavioural:
            self._use_own_outputs()
        self.chance = self._chance()
        self.baseline = self._tabulate()
        self.local_rise = None
        if self.chance is not None and self._loss is not None:
            room = self.chance - self.baseline.mean
            self.local_rise = self._loss.local_share * room if room > 0 else None

    @property
    def is_half(self) -> bool:
        """Whether losses are rounded to less than single precision on their way."""
        return self.autocast or self.layout.is_half

    @property
    def convolves(self) -> bool:
        """Whether the model has convolutions."""
        kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d)
        return any(isinstance(module, kinds) for module in self.module.modules())

    def values(self, weights: Tensor, batch: Any) -> Tensor:
        """Evaluate the loss: ``(batch,)`` per-example values, or their mean ``()``."""
        return self.values_at(self.layout.unflatten(weights), batch)

    def values_at(self, params: dict[str, Tensor], batch: Any) -> Tensor:
        """Evaluate the loss as `values`, at weights by name."""
        batch = self.completed(batch)
        without_graph = not torch.is_grad_enabled()
        if without_graph and self.differentiates:
            params = {name: piece.detach().requires_grad_() for name, piece in params.items()}
        with self._computing(), torch.set_grad_enabled(not without_graph or self.differentiates):
            found = self._at(params, batch)
        if without_graph and isinstance(found, Tensor):
            found = found.detach()
        if self.is_half and isinstance(found, Tensor) and found.is_floating_point():
            # Differences of losses are small: they are not taken in half precision.
            return found.to(torch.promote_types(found.dtype, torch.float32))
        return found

    def outputs(self, inputs: Any) -> Any:
        """Return the model's outputs at w*, without a graph."""
        with recomputing_in_place(), torch.set_grad_enabled(self.differentiates):
            # By these weights: the module itself may stand elsewhere, see `during`.
            found = self._at.during(self._centred, lambda: self.module.model(inputs))
        return found.detach() if isinstance(found, Tensor) else found

    def during(self, params: dict[str, Tensor], function: Callable[[], Result]) -> Result:
        """Call a function, a backward pass in it, while the model stands at these weights."""
        with self._computing():
            return self._at.during(params, function)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        fast: AbstractContextManager[None] = nullcontext()
        if self._quick:
            fast = onednn.linear_layers()
        half = torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.autocast, cache_enabled=False
        )
        with one_attention_path(), recomputing_in_place(), half, fast:
            yield

    def _placed(self, leaf: Tensor) -> Tensor:
        there = leaf.detach().to(self.device)
        return there.clone() if there.is_inference() else there  # no graph takes such as they are

    def twin(self, dtype: torch.dtype) -> Callable[[Tensor, Any], Tensor]:
        """Return the mean loss as a function of weights and batch, all of it in a precision."""
        found = Twin(self.module, self.layout, dtype)
        return lambda weights, batch: found(weights, self.completed(batch))

    def _share_centre(self) -> None:
        """Let the private model's weights be w* itself, where they are of its kind."""
        named = dict(self.module.named_parameters())
        if type(self.layout) is not Layout or set(self.layout.dtypes) != {self.layout.dtype}:
            return
        for name, piece in self.layout.unflatten(self.centre).items():
            named[name].data = piece

    def _alike(self) -> tuple[float, str]:
        """What looks like padding and has a say in the loss: examples, or positions in them."""
        if self.data is None:
            return 0.0, ""
        found = [(repeated(self.data), "examples are one and the same")]
        if self._loss is not None and losses.is_known(self._loss):
            # Of other losses nobody knows whether they mask.
            inputs, targets = self.data
            whole = self._loss.name != "mse" and not targets.is_floating_point()
            masked = whole and bool((targets == losses.IGNORED).any())
            if targets.shape == inputs.shape and not masked:
                found.append((padded(inputs), "tokens are one and the same at sequences' ends"))
        return max(found)

    def held(self) -> list[Tensor]:
        """Return what is in memory whatever is computed: buffers, weights at w*, data."""
        leaves = [x for x in tree_leaves(self.data) if isinstance(x, Tensor)]
        return [*self.module.buffers(), *self.module.parameters(), *leaves]

    @torch.no_grad()
    def _manageable(self, size: int) -> int:
        """How many examples a pass takes at a time: fewer where each of them needs much memory."""
        if size < 4:
            return CHUNK
        few = 1 if self.is_large else 2
        try:
            low, high = (
                kept_bytes(self.values, self.centre, take(self.data, slice(0, k)), self.held())
                for k in (few, 2 * few)
            )
        except Exception:
            # What fails here fails on a whole batch too, with the shapes that its user knows.
            return CHUNK
        each = (high - low) / few
        most = MOST_KEPT_OF_LARGE if self.is_large else MOST_KEPT
        return CHUNK if each * CHUNK <= most else max(1, int(most / each))

    @torch.no_grad()
    def _check_outputs(self) -> None:
        """Refuse outputs and targets that are not what the loss's name says."""
        if self._loss is None or self._loss.arrange is None:
            return
        inputs, targets = self.data
        try:
            outputs = self.module.model(inputs[:PROBE])
        except Exception:
            # What fails here fails on a whole batch too, and is told there.
            return
        if isinstance(outputs, Tensor) and outputs.is_floating_point():
            check_outputs(self._loss, outputs, targets, self._elsewhere(inputs))

    def _elsewhere(self, inputs: Tensor) -> Iterator[Tensor]:
        """Yield outputs at w* of more examples, and those of the first at other weights."""
        yield self.module.model(inputs[: min(LOOK, self.chunk)])
        noise = NoiseStreams(0, "outputs", 1, self.device)
        scale = 0.1 * (1 + self.centre.square().mean().sqrt())
        for _ in range(2):
            delta = scale * noise.normal(self.layout.total, self.layout.dtype)[0]
            named = self.layout.unflatten(self.centre + delta)
            own = {name.removeprefix("model."): value for name, value in named.items()}
            yield Reweighted(self.module.model)(own, inputs[: min(LOOK, self.chunk)])

    @torch.no_grad()
    def _use_own_outputs(self) -> None:
        loss = losses.for_own_outputs(self._loss)
        inputs = self.data[0]
        first = self.outputs(inputs[: min(PROBE, self.chunk)])
        each = first.numel() * first.element_size() / len(first)
        if each * len(inputs) > MOST_OUTPUTS:
            self._anew, self._own = True, loss
            self._loss = self.module.loss = losses.towards_own(loss, self.data[1])
            return
        step = self.chunk
        outputs = [self.outputs(inputs[i : i + step]) for i in range(0, len(inputs), step)]
        reference, towards = losses.own_outputs(loss, torch.cat(outputs), self.data[1])
        self.data = (inputs, reference)
        self._loss = self.module.loss = towards

    @torch.no_grad()
    def completed(self, batch: Any) -> Any:
        """Put a batch's own outputs in the place of its targets, where all are too many to keep."""
        if not self._anew:
            return batch
        inputs, targets = batch
        with self._computing():
            outputs = self.outputs(inputs)
        return inputs, losses.own_targets(self._own, outputs, targets)

    @torch.no_grad()
    def _chance(self) -> float | None:
        if self._loss is None or self._loss.chance is None:
            return None
        inputs, targets = self.data
        return self._loss.chance(self.outputs(inputs[:PROBE]), targets)

    @torch.no_grad()
    def _tabulate(self) -> Baseline:
        """Evaluate the loss at w* over all data, and learn which kind of loss it is."""
        if self.size is None:
            value = self.values(self.centre, None)
            if value.ndim != 0:
                raise InputError(
                    f"potential returned shape {tuple(value.shape)}, expected a scalar ()"
                )
            return Baseline(finite(value.item()), None, value.dtype)
        parts, counts = [], []
        for start in range(0, self.size, self.chunk):
            batch = take(self.data, slice(start, min(start + self.chunk, self.size)))
            counts.append(number_of_examples(batch))
            parts.append(self.values(self.centre, batch))
            if parts[-1].shape not in ((), (counts[-1],)):
                raise InputError(
                    f"the loss returned shape {tuple(parts[-1].shape)} for a batch of "
                    f"{counts[-1]}, expected their mean () or one value per example "
                    f"({counts[-1]},)"
                )
        dtype = parts[0].dtype
        refuse_sums(self)
        if parts[0].ndim == 1:
            table = torch.cat(parts)
            mean = finite(table.double().mean().item(), table)
            return Baseline(mean, None if couples_examples(self, table) else table, dtype)
        weighted = [part.item() * count for part, count in zip(parts, counts, strict=True)]
        return Baseline(finite(math.fsum(weighted) / self.size), None, dtype)


@contextmanager
def one_attention_path() -> Iterator[None]:
    """Keep torch's transformer layers off the fused path that they take without gradients.

    It rounds differently from the path that gradients take, which would spoil the pairing, and
    it cannot be vectorised over chains.
    """
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


class _WholeLoss(nn.Module):
    """The whole loss as one module, so that `Reweighted` can swap the model's weights."""

    def __init__(self, model: nn.Module, task: Task, loss: losses.Loss | None) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self._batch_loss: Callable[[nn.Module, Any], Tensor] | None = task.batch_loss
        self._potential: Callable[[nn.Module], Tensor] | None = task.potential
        # Not .eval(): that would put the model into eval mode once more, which is no matter,
        # but a loss given as an nn.Module belongs to the user and keeps its own mode.
        self.training = False

    def forward(self, batch: Any) -> Tensor:
        if self._potential is not None:
            return self._potential(self.model)
        if self._batch_loss is not None:
            return self._batch_loss(self.model, batch)
        inputs, targets = batch
        assert self.loss is not None
        outputs = self.model(inputs)
        if isinstance(outputs, Tensor):
            return self.loss.function(outputs, targets)
        try:
            return self.loss.function(outputs, targets)
        except (AttributeError, TypeError) as error:
            raise InputError(no_tensor(outputs, error)) from error
