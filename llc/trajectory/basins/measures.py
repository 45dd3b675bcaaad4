"""Two measures of how alike two representations are, blind to rotation and scale."""

import torch
from torch import Tensor

from llc.diagnostics import Array
from llc.errors import InputError

__all__ = ["alike", "cka", "procrustes", "reduced", "turned"]


def cka(one: Tensor | Array, other: Tensor | Array) -> float:
    """Linear centred kernel alignment, ‖YᵀX‖²_F / (‖XᵀX‖_F·‖YᵀY‖_F) of centred X and Y.

    1 for representations that are the same up to an orthogonal map and a scale, 0 for
    uncorrelated ones; directions of large variance count most (Kornblith, Norouzi, Lee and Hinton
    2019, arXiv 1905.00414). nan where one of them is constant.

    Args:
        one: X, ``(examples, features)``.
        other: Y, ``(examples, other features)``.
    """
    return alike(*_both(one, other))


def procrustes(one: Tensor | Array, other: Tensor | Array) -> float:
    """Orthogonal Procrustes similarity, ‖XᵀY‖_* of centred X and Y of Frobenius norm 1.

    It is 1 − d²/2 with d the smallest distance ‖X − YQ‖_F over orthogonal Q, a metric (Ding,
    Denain and Steinhardt 2021, arXiv 2108.01661): 1 for representations that are the same up to
    an orthogonal map and a scale. Between CKA and this, the latter sees directions of small
    variance. nan where one of them is constant.

    Args:
        one: X, ``(examples, features)``.
        other: Y, ``(examples, other features)``; the narrower is filled up with zeros.
    """
    return turned(*_both(one, other))


def _both(one: Tensor | Array, other: Tensor | Array) -> tuple[Tensor, Tensor]:
    x, y = (torch.as_tensor(each) for each in (one, other))
    if x.ndim < 2 or y.ndim < 2 or len(x) != len(y):
        raise InputError(
            f"representations have shapes {tuple(x.shape)} and {tuple(y.shape)}, expected "
            "(examples, features) with the same examples"
        )
    x, y = (z if z.is_floating_point() else z.double() for z in (x, y))
    return reduced(x), reduced(y)


def reduced(activations: Tensor) -> Tensor:
    """Centre, scale to Frobenius norm 1, and turn into as few features as there are examples.

    Both similarities are blind to orthogonal maps of the features, so that of many features only
    the triangular factor is kept.
    """
    x = activations.flatten(1).double()
    x = x - x.mean(0)
    if x.shape[1] > len(x):
        x = torch.linalg.qr(x.T, mode="r").R.T
    norm, size = x.norm(), activations.double().norm()
    # What rounding leaves of a constant is no direction.
    constant = norm <= torch.finfo(activations.dtype).eps * size
    return x / norm if not constant else torch.full_like(x, torch.nan)


def alike(x: Tensor, y: Tensor) -> float:
    """Return `cka` of two reduced representations."""
    cross = (x.T @ y).square().sum()
    return float(cross / ((x.T @ x).norm() * (y.T @ y).norm()))


def turned(x: Tensor, y: Tensor) -> float:
    """Return `procrustes` of two reduced representations."""
    cross = x.T @ y
    return float(torch.linalg.svdvals(cross).sum()) if cross.isfinite().all() else float("nan")
