"""Products with the Hessian and the Gauss–Newton matrix of a loss at w*, over all data in chunks.

Both by reverse mode alone, which every model with second derivatives has. A product Jv is the
derivative by u of Jᵀu along v, so that it too is a backward pass (Townsend 2017).
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import grad
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from llc.data import take
from llc.errors import InputError
from llc.memory import chain_bytes
from llc.objective import CHUNK, Objective

__all__ = ["MATRICES", "Products", "output_factors"]

MATRICES = ("ggn", "hessian")
MOST_SIDE = 32
SECOND_ORDER = 2
ROWS = 256
NULL = 1e-12

Push = Callable[[Tensor], Tensor]


class Products:
    """v → Av with A the Hessian ∇²L(w*) or the Gauss–Newton matrix JᵀH_out J, averaged over data.

    J is the Jacobian of the model's outputs by its parameters, H_out the Hessian of the loss by the
    outputs (Schraudolph 2002). The Hessian is that plus Σ (∂L/∂f) ∇²f, so that both agree where
    residuals are zero.

    Args:
        objective: the loss on private copies.
        matrix: ``"hessian"`` or ``"ggn"``.
        room: bytes that activations may take.

    Attributes:
        examples: examples a chunk.
        side: vectors a call takes at a time; more are split.
        count: products done so far, each over all data.

    Raises:
        InputError: ``"ggn"`` where there are no outputs, or a loss without derivatives.
    """

    def __init__(self, objective: Objective, matrix: str, room: float) -> None:
        self._objective = objective
        self._push = self._hessian if matrix == "hessian" else self._ggn
        if matrix == "ggn" and objective.module.loss is None:
            raise InputError(
                "matrix is 'ggn', which needs a loss of (outputs, targets): write matrix='hessian' "
                "for a potential or a batch_loss"
            )
        self.examples = min(objective.size or 1, CHUNK)
        while self.examples > 1 and self._bytes() > room:
            self.examples //= 2
        self.side = int(max(1, min(MOST_SIDE, room / max(self._bytes(), 1))))
        self.count = 0
        self._kept: Push | None = None

    def __call__(self, vectors: Tensor) -> Tensor:
        """Multiply rows ``(probes, D)``; return rows of the same shape."""
        self.count += len(vectors)
        return torch.cat([self._some(part) for part in vectors.split(self.side)])

    def gradient(self) -> Tensor:
        """Return ∇L(w*) over all data, shape ``(D,)``."""
        total = torch.zeros_like(self._objective.centre)
        with torch.enable_grad():
            for batch, share in self._chunks():
                leaf = self._objective.centre.detach().clone().requires_grad_()
                loss = self._objective.values(leaf, batch).mean()
                _check_differentiable(loss)
                total += share * grad(loss, leaf)[0]
        return total

    def _bytes(self) -> float:
        size = self._objective.size
        return (
            SECOND_ORDER * chain_bytes(self._objective, None if size is None else self.examples)[1]
        )

    def _chunks(self) -> Iterator[tuple[Any, float]]:
        size = self._objective.size
        if size is None:
            yield None, 1.0
            return
        for begin in range(0, size, self.examples):
            part = slice(begin, min(begin + self.examples, size))
            yield take(self._objective.data, part), (part.stop - begin) / size

    def _some(self, vectors: Tensor) -> Tensor:
        total = torch.zeros_like(vectors)
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            for batch, share in self._chunks():
                # Data that fit into one chunk need their graph only once.
                push = self._kept or self._push(batch)
                if share == 1:
                    self._kept = push
                total += share * push(vectors)
        return total

    def _hessian(self, batch: Any) -> Push:
        leaf = self._objective.centre.detach().clone().requires_grad_()
        loss = self._objective.values(leaf, batch).mean()
        _check_differentiable(loss)
        (slope,) = grad(loss, leaf, create_graph=True)
        return lambda vectors: pull(slope, leaf, vectors)

    def _ggn(self, batch: Any) -> Push:
        loss = self._objective.module.loss
        assert loss is not None
        leaf, outputs = model_outputs(self._objective, batch[0])
        dual = torch.zeros_like(outputs, requires_grad=True)
        (pulled,) = grad(outputs, leaf, dual, create_graph=True)
        there = outputs.detach().requires_grad_()
        value = loss.function(there, batch[1]).mean()
        _check_differentiable(value)
        (residual,) = grad(value, there, create_graph=True)

        def push(vectors: Tensor) -> Tensor:
            moved = pull(pulled, dual, vectors)
            return pull(outputs, leaf, pull(residual, there, moved))

        return push


def model_outputs(objective: Objective, inputs: Any) -> tuple[Tensor, Tensor]:
    """Return a leaf at w* and the model's outputs as a function of it."""
    leaf = objective.centre.detach().clone().requires_grad_()
    named = objective.layout.unflatten(leaf)
    own = {name.removeprefix("model."): value for name, value in named.items()}
    outputs = functional_call(objective.module.model, own, (inputs,))
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
        raise InputError(
            f"the model returns a {type(outputs).__name__}, expected a floating-point tensor for "
            "the Gauss–Newton matrix: write matrix='hessian', or wrap the model to return its "
            "outputs alone"
        )
    _check_differentiable(outputs)
    return leaf, outputs


def output_factors(objective: Objective) -> Iterator[Tensor]:
    """Yield rows of H_out^{1/2} J, whose rank is that of the Gauss–Newton matrix, unsquared.

    Yields:
        Blocks of shape ``(examples · outputs, D)``.
    """
    size = objective.size
    loss = objective.module.loss
    assert size is not None
    assert loss is not None
    begin, examples = 0, 1
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        while begin < size:
            inputs, targets = take(objective.data, slice(begin, min(begin + examples, size)))
            leaf, outputs = model_outputs(objective, inputs)
            count, width = len(outputs), outputs[0].numel()
            there = outputs.detach().requires_grad_()
            # Summed, so that every example's own Hessian is read off one pass an output.
            total = loss.function(there, targets).mean() * count
            _check_differentiable(total)
            (residual,) = grad(total, there, create_graph=True)
            unit = torch.eye(width, dtype=there.dtype, device=there.device)
            ones = unit[:, None].expand(width, count, width).reshape(width, *outputs.shape)
            own = pull(residual, there, ones).reshape(width, count, width).transpose(0, 1)
            values, vectors = torch.linalg.eigh((own + own.mT) / 2)
            # Directions that a loss does not see, as all logits together, are not to come back as
            # the square root of rounding.
            values = torch.where(values > NULL * values.amax(), values.clamp_min(0), 0.0)
            each = torch.eye(count * width, dtype=there.dtype, device=there.device)
            jacobian = pull(outputs, leaf, each.reshape(-1, *outputs.shape))
            root = values.sqrt()[..., None] * vectors.mT
            yield (root @ jacobian.reshape(count, width, -1)).reshape(count * width, -1)
            begin += count
            examples = max(1, ROWS // width)


def pull(result: Tensor, leaf: Tensor, vectors: Tensor) -> Tensor:
    """Return (∂result/∂leaf)ᵀv for rows v, side by side where the model allows it."""
    if not result.requires_grad:  # a constant
        return vectors.new_zeros((len(vectors), *leaf.shape))
    if len(vectors) > 1:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message="There is a performance drop")
                (found,) = grad(
                    result,
                    leaf,
                    vectors,
                    retain_graph=True,
                    is_grads_batched=True,
                    allow_unused=True,
                )
            return vectors.new_zeros((len(vectors), *leaf.shape)) if found is None else found
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, UserWarning):  # no batching rule: one after another
            pass
    return torch.stack([_pull_one(result, leaf, vector) for vector in vectors])


def _pull_one(result: Tensor, leaf: Tensor, vector: Tensor) -> Tensor:
    try:
        (found,) = grad(result, leaf, vector, retain_graph=True, allow_unused=True)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise InputError(
            f"the model or its loss has no second derivative ({' '.join(str(error).split())[:200]})"
            ": replace the operation by one that torch differentiates twice"
        ) from error
    return torch.zeros_like(leaf) if found is None else found


def _check_differentiable(value: Tensor) -> None:
    if not value.requires_grad:
        raise InputError(
            "the loss has no gradient with respect to the weights, as an error rate or a detached "
            "output: give a differentiable loss"
        )
