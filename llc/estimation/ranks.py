"""How many directions act at second order: the rank behind the free lower bound of λ."""

import torch
from torch import Tensor

from llc.errors import InputError
from llc.estimation.curvature import spectrum_by_forming, threshold
from llc.estimation.products import Products, output_factors
from llc.execution import Execution
from llc.objective import Objective

__all__ = ["rank_at_minimum", "rank_of_outputs"]

SAFETY = 2.0
ZERO = 1e-3
ZERO_UNKNOWN = 1e-6


def rank_of_outputs(objective: Objective, own: torch.dtype) -> int:
    """Number of singular values of H_out^{1/2} J above rounding, by QR a block of rows at a time.

    QR keeps singular values, which JᵀJ would square.

    Raises:
        InputError: w* is no zero of the loss.
    """
    _check_zero(objective)
    size = objective.layout.total
    # Near a zero of xy at distance e the loss is e⁴, and e the singular value that is zero at it.
    near = SAFETY * abs(objective.baseline.mean * (objective.size or 1)) ** 0.25
    factor = torch.zeros((0, size), dtype=torch.float64)
    waiting, rows = [factor], 0
    for block in output_factors(objective):
        rows += len(block)
        waiting.append(block.double().cpu())
        if sum(map(len, waiting)) >= 2 * size:
            factor = torch.linalg.qr(torch.cat(waiting), mode="r")[1]
            waiting = [factor]
            if _rank(factor, rows, own, near) == size:
                return size
    return _rank(torch.cat(waiting), rows, own, near)


def _rank(matrix: Tensor, rows: int, own: torch.dtype, near: float) -> int:
    values = torch.linalg.svdvals(matrix)
    largest = float(values.max())
    rounding = max(rows, matrix.shape[1]) * torch.finfo(own).eps * largest
    return int((values > max(rounding, near * largest**0.5)).sum())


def rank_at_minimum(objective: Objective, own: torch.dtype, execution: Execution) -> int:
    """Number of eigenvalues of the Hessian above what rounding and distance may leave of zero.

    Raises:
        InputError: w* is no minimum of the loss.
    """
    products = Products(objective, "hessian", execution.limit(objective.device))
    spectrum = spectrum_by_forming(products, objective.centre)
    largest = float(abs(spectrum.known).max())
    gradient = float(products.gradient().norm())
    # Near a minimum of x²y² at distance e the gradient is e³, and e² the curvature that is zero at
    # the minimum: what a w* only near its minimum may bend flat directions by is not counted.
    bent = SAFETY * (gradient**2 * largest) ** (1 / 3)
    layout = objective.layout
    limit = max(threshold("hessian", largest, layout.total, own, layout.dtype), bent)
    if spectrum.smallest < -limit or gradient > ZERO * largest:
        raise InputError(
            f"w* is no minimum of the loss (gradient {gradient:.2g}, smallest eigenvalue of the "
            f"Hessian {spectrum.smallest:.2g}, largest {largest:.2g}), expected one: train on, or "
            "use a loss of (outputs, targets) with behavioural=True"
        )
    return int((spectrum.known > limit).sum())


def _check_zero(objective: Objective) -> None:
    loss = objective.module.loss
    assert loss is not None
    baseline = objective.baseline.mean
    chance = objective.chance
    most = ZERO_UNKNOWN if chance is None else max(ZERO * chance, ZERO_UNKNOWN)
    # Cross-entropy towards labels has its zero at infinity, not at any w*.
    if loss.name == "cross_entropy" or abs(baseline) > most:
        raise InputError(
            f"loss {loss.name!r} is {baseline:.3g} at w*, expected a zero of the loss at which its "
            "gradient vanishes: write behavioural=True, with loss='cross_entropy' or 'mse', to "
            "measure towards the model's own outputs"
        )
