"""Weights moved along their orbit towards a reference."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from llc.errors import InputError
from llc.symmetry.base import Symmetry

__all__ = ["align", "distance"]

SWEEPS = 50
ENOUGH = 1e-12


def align(
    reference: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    symmetries: Sequence[Symmetry],
    *,
    sweeps: int = SWEEPS,
) -> dict[str, Tensor]:
    """Move weights by known symmetries as near to a reference as can be found.

    Coordinate descent: every symmetry in turn is put where it is best given all others, until
    nothing comes nearer. Permutations by linear assignment, exact for one layer of units, which is
    weight matching (Ainsworth, Hayase & Srinivasa 2023, arXiv 2209.04836); rescalings of a ReLU's
    units jointly with it, by the least squares of every pair of units; rotations by orthogonal
    Procrustes, gauges by least squares on either side refined by L-BFGS; shifts by linear least
    squares. Rescalings go towards the reference rather than to the balanced form, which is a point
    of the orbit that knows no reference and may be farther from it. Of several layers together the
    optimum is not known to be found: three starts are tried (as given; each layer aligned at first
    by those tensors alone that later, or earlier, ones do not move), and the best end is kept.

    Args:
        reference: name → tensor.
        weights: the same names and shapes; not changed.
        symmetries: as declared, or as `find_symmetries` returned them; best in the order of layers.
        sweeps: rounds over all symmetries at most.

    Returns:
        Moved weights in their own dtypes, never farther from the reference than they were, over
        all floating-point tensors; tensors that no symmetry moves are shared.

    Raises:
        InputError: names or shapes of the two differ, or a symmetry does not fit them.
    """
    _check(reference, weights)
    goal = _double(reference)
    given = _double(weights)
    best = given
    for start in (given, *(_anchored(goal, given, order) for order in _orders(symmetries))):
        end = _descend(goal, start, symmetries, sweeps)
        if distance(goal, end) < distance(goal, best):
            best = end
    moved = {
        name: value.to(weights[name].dtype) if value is not given.get(name) else weights[name]
        for name, value in best.items()
    }
    result = {**weights, **moved}
    # Rounding to single precision is all that can make it farther.
    return result if distance(reference, result) < distance(reference, weights) else dict(weights)


def distance(reference: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> float:
    """Return the Euclidean distance over all floating-point tensors of the reference."""
    squares = [
        float((value.detach().double() - weights[name].detach().double()).square().sum())
        for name, value in reference.items()
        if value.is_floating_point()
    ]
    return math.sqrt(math.fsum(squares))


def _orders(symmetries: Sequence[Symmetry]) -> list[list[Symmetry]]:
    return [list(symmetries), list(symmetries)[::-1]]


def _anchored(
    goal: Mapping[str, Tensor], weights: Mapping[str, Tensor], order: Sequence[Symmetry]
) -> Mapping[str, Tensor]:
    """Align one after another, deaf to tensors that are still to be moved by a later one."""
    for position, symmetry in enumerate(order):
        later = frozenset[str]().union(*(other.tensors for other in order[position + 1 :]))
        weights = symmetry.nearest(goal, weights, later)
    return weights


def _descend(
    goal: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    symmetries: Sequence[Symmetry],
    sweeps: int,
) -> Mapping[str, Tensor]:
    now = distance(goal, weights)
    for _ in range(sweeps):
        before = now
        for symmetry in symmetries:
            moved = symmetry.nearest(goal, weights)
            there = distance(goal, moved)
            if there < now:
                weights, now = moved, there
        if now >= before * (1 - ENOUGH):
            break
    return weights


def _double(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: value.detach().cpu().double() if value.is_floating_point() else value
        for name, value in weights.items()
    }


def _check(reference: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    if set(reference) != set(weights):
        odd = sorted(set(reference) ^ set(weights))
        raise InputError(
            f"{odd[0]} is in only one of reference and weights, expected the same tensors in both"
        )
    for name, value in reference.items():
        if value.shape != weights[name].shape:
            raise InputError(
                f"{name} has shape {tuple(value.shape)} in the reference and "
                f"{tuple(weights[name].shape)} in the weights, expected one architecture"
            )
    if not torch.tensor(distance(reference, weights)).isfinite():
        raise InputError("reference or weights hold nan or infinity, expected finite weights")
