"""A case with known answers: the task, and the numbers it must give."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from llc.errors import InputError
from llc.task import Task
from llc.truths.states import States

__all__ = ["Expected", "MakeTask", "Point", "Truth", "point_task"]

Expected = Callable[[float, float], tuple[float, float]]
"""(nβ, γ) → B and its standard error, 0 where exact."""

MakeTask = Callable[[int | None, int], Task]
"""(n or None for the population loss, seed of data) → task at w*."""


@dataclass(frozen=True, eq=False)
class Truth:
    """A model at w* whose learning coefficient is known.

    Three numbers are kept apart: A, the algebraic coefficient λ as n → ∞ (``llc``); B, the exact
    expectation of the estimator at the nβ and γ in use (`expected`); C, what a sampler returns. An
    estimator answers for C − B; B − A is the price of finite n and of localisation.

    Attributes:
        name: what tables call it.
        llc: A, exact where it is a `Fraction`; None where nobody knows it.
        multiplicity: m, or None.
        citation: where A comes from.
        llc_error: uncertainty of A where it was fitted, else 0.
        dimension: number of parameters.
        function: K of a point, (…, dimension) → (…), where the truth is a function; else None.
        states: density of ln K, where known; else None.
    """

    name: str
    llc: Fraction | float | None
    multiplicity: int | None
    citation: str
    make_task: MakeTask
    dimension: int
    make_expected: Expected | None = None
    llc_error: float = 0.0
    function: Callable[[Tensor], Tensor] | None = None
    states: States | None = None

    def expected(self, n_beta: float, gamma: float) -> float | None:
        """Return B = nβ E[L(w) − L(w*)] under exp(−nβL(w) − (γ/2)‖w − w*‖²), None if unknown.

        Raises:
            InputError: a temperature or localisation that is not positive.
        """
        both = self.expected_with_error(n_beta, gamma)
        return None if both is None else both[0]

    def expected_with_error(self, n_beta: float, gamma: float) -> tuple[float, float] | None:
        """Return B and its standard error, 0 where it is exact.

        Raises:
            InputError: a temperature or localisation that is not positive.
        """
        for name, value in (("n_beta", n_beta), ("gamma", gamma)):
            if not 0 < value < float("inf"):
                raise InputError(f"{name} is {value!r}, expected a positive number")
        return None if self.make_expected is None else self.make_expected(n_beta, gamma)

    def task(self, n: int | None = None, seed: int = 0) -> Task:
        """Return the task, its model at w*.

        Args:
            n: examples, where the case has data; None for the population loss.
            seed: of the data.

        Raises:
            InputError: data asked for where there is only a potential.
        """
        return self.make_task(n, seed)

    def __str__(self) -> str:
        m = "" if self.multiplicity in (None, 1) else f", m = {self.multiplicity}"
        return f"{self.name}: λ = {'unknown' if self.llc is None else self.llc}{m}"


class Point(nn.Module):
    """A model that is nothing but a vector of parameters w, at zero."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(dimension, dtype=torch.float64))


def point_task(name: str, function: Callable[[Tensor], Tensor], dimension: int) -> MakeTask:
    """Make the task of a function of a point."""

    def make(n: int | None, _seed: int) -> Task:
        if n is not None:
            raise InputError(f"n is {n}, but {name} is a potential without data: leave n out")

        def loss(model: Any) -> Tensor:
            return function(model.w)

        return Task(Point(dimension), potential=loss, name=name)

    return make
