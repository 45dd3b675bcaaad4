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
from torch.nn.attention import SDPBackend, sdpa_kernel

from llc.data import take
from llc.errors import InputError
from llc.memory import chain_bytes
from llc.objective import Objective
from llc.params import NoiseStreams
from llc.reweighted import Reweighted
from llc.soundness import PROBE

__all__ = ["MATRICES", "Products", "output_factors"]

MATRICES = ("ggn", "hessian")
MOST_SIDE = 32
SECOND_ORDER = 2
ROWS = 256
REACH = 1e-5
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
        self.examples = min(objective.size or 1, objective.chunk)
        while self.examples > 1 and self._bytes() > room:
            self.examples //= 2
        self.side = int(max(1, min(MOST_SIDE, room / max(self._bytes(), 1))))
        self.count = 0
        self._kept: Push | None = None
        if objective.layout.dtype == torch.float64:
            self._check_twice()

    def __call__(self, vectors: Tensor) -> Tensor:
        """Multiply rows ``(probes, D)``; return rows of the same shape."""
        self.count += len(vectors)
        return torch.cat([self._some(part) for part in vectors.split(self.side)])

    def _check_twice(self) -> None:
        """Compare one product on a few examples with differences of first derivatives.

        Functions that torch differentiates once only may drop out of the second without a word.
        """
        size = self._objective.size
        batch = None if size is None else take(self._objective.data, slice(0, min(size, PROBE)))
        centre = self._objective.centre
        noise = NoiseStreams(0, "curvature check", 1, centre.device)
        vector = noise.normal(len(centre), centre.dtype)
        vector = vector / vector.norm()
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            product = self._push(batch)(vector)[0]
            near, far = (self._by_differences(vector[0], batch, r) for r in (REACH, 10 * REACH))
        off = (product - near).norm()
        # Differences err by the square of their reach: by far less than these two from each other.
        if not off <= 0.1 * near.norm() + (near - far).norm() + 1e-9:
            raise InputError(
                f"second derivatives of the model or its loss differ by {float(off):.2g} from "
                "differences of the first: an operation in it is differentiated once only, and "
                "has to be replaced by one that torch differentiates twice"
            )

    def _by_differences(self, vector: Tensor, batch: Any, reach: float) -> Tensor:
        """Av with the inner derivative replaced by a central difference."""
        steps = (reach * vector, -reach * vector)
        if self._push == self._hessian:
            up, down = (self._slope(self._objective.centre + step, batch) for step in steps)
            return (up - down) / (2 * reach)
        up, down = (model_outputs(self._objective, batch[0], step)[1] for step in steps)
        leaf, there = model_outputs(self._objective, batch[0])
        moved = (up - down).detach() / (2 * reach)
        return pull(
            there, leaf, self._by_outputs(there, self._objective.completed(batch)[1])(moved[None])
        )[0]

    def _slope(self, weights: Tensor, batch: Any) -> Tensor:
        leaf = weights.detach().clone().requires_grad_()
        loss = self._objective.values(leaf, batch).mean()
        _check_differentiable(loss)
        return grad(loss, leaf)[0]

    def _by_outputs(self, outputs: Tensor, targets: Any) -> Push:
        """Products with H_out, the Hessian of the batch's mean loss by its outputs."""
        loss = self._objective.module.loss
        assert loss is not None
        there = outputs.detach().requires_grad_()
        value = loss.function(there, targets).mean()
        _check_differentiable(value)
        (residual,) = grad(value, there, create_graph=True)
        return lambda vectors: pull(residual, there, vectors)

    def gradient(self) -> Tensor:
        """Return ∇L(w*) over all data, shape ``(D,)``."""
        total = torch.zeros_like(self._objective.centre)
        with torch.enable_grad():
            for batch, share in self._chunks():
                total += share * self._slope(self._objective.centre, batch)
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
        leaf, outputs = model_outputs(self._objective, batch[0])
        dual = torch.zeros_like(outputs, requires_grad=True)
        (pulled,) = grad(outputs, leaf, dual, create_graph=True)
        by_outputs = self._by_outputs(outputs, self._objective.completed(batch)[1])
        return lambda vectors: pull(outputs, leaf, by_outputs(pull(pulled, dual, vectors)))


def model_outputs(
    objective: Objective, inputs: Any, displacement: Tensor | float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return a leaf at w*, or displaced from it, and the model's outputs as a function of it."""
    leaf = (objective.centre.detach() + displacement).requires_grad_()
    named = objective.layout.unflatten(leaf)
    own = {name.removeprefix("model."): value for name, value in named.items()}
    outputs = Reweighted(objective.module.model)(own, inputs)
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
            inputs, targets = objective.completed(
                take(objective.data, slice(begin, min(begin + examples, size)))
            )
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
