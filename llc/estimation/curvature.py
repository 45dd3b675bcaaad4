"""The result object of curvature: what the second derivative at w* says of effective dimension."""

import math
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch

from llc.diagnostics import Array
from llc.errors import InputError
from llc.estimation.estimate import rounded
from llc.estimation.products import Products
from llc.estimation.spectrum import Spectrum, dense, lanczos, leading
from llc.params import NoiseStreams

__all__ = ["Curvature", "spectrum_by_forming", "spectrum_by_probes", "threshold"]


@dataclass(frozen=True, eq=False)
class Curvature:
    """Eigenvalues h_i of the Hessian or Gauss–Newton matrix at w*, and sums over them.

    Standard errors are 0 where the matrix was formed.

    Attributes:
        matrix: ``"hessian"`` or ``"ggn"``.
        dimension: D, number of parameters.
        eigenvalues: the largest, falling, in units of the loss over weights squared. Where the
            matrix was not formed, of many equal ones only some may be found.
        smallest: the smallest eigenvalue; where the matrix was not formed, the smallest that the
            probes found, which is no smaller than it. Well below zero at a saddle.
        trace: Σ h_i, ``trace_se`` its standard error.
        participation_ratio: (Σh)²/Σh², the number of equal eigenvalues that would spread as wide,
            ``participation_ratio_se`` its standard error.
        rank: number of eigenvalues above ``tolerance``, ``rank_se`` its error. Only a formed
            matrix gives a whole number; by probes it is sharp where there is a gap at the
            tolerance, and says little where eigenvalues fall off smoothly.
        tolerance: below it an eigenvalue counts as zero.
        exact: whether the matrix was formed.
        alpha: γ/nβ, or None where γ or nβ was not given.
        n_beta: nβ, or None.
        gamma: γ, or None.
        products: products with the matrix, each over all data.
        dtype: precision of the computation, ``"float64"`` or ``"float32"``.
        seconds: wall time.
        spectrum: what the sums are made of.
    """

    matrix: str
    dimension: int
    eigenvalues: tuple[float, ...]
    smallest: float
    trace: float
    trace_se: float
    participation_ratio: float
    participation_ratio_se: float
    rank: float
    rank_se: float
    tolerance: float
    exact: bool
    n_beta: float | None
    gamma: float | None
    products: int
    dtype: str
    seconds: float
    spectrum: Spectrum = field(repr=False)

    @property
    def alpha(self) -> float | None:
        """γ/nβ, the curvature at which data and localisation weigh the same."""
        if self.n_beta is None or self.gamma is None:
            return None
        return self.gamma / self.n_beta

    def effective_dimension(self, alpha: float | None = None) -> tuple[float, float]:
        """Return N_eff(α) = Σ h_i/(h_i + α) and its standard error.

        MacKay (1992); Maddox, Benton & Wilson (2020). On a quadratic loss N_eff(γ/nβ) is
        twice the exact expectation of the LLC estimator at nβ and γ, so that a gap between it and
        2λ̂ means singularity, or chains that have not mixed. The error holds the spread of the
        probes and what the Lanczos steps leave open. Eigenvalues below zero, which no minimum has,
        count as zero.

        Args:
            alpha: α, in units of the eigenvalues; γ/nβ as given to `llc.curvature` unless given.

        Raises:
            InputError: α is no positive number, or neither α nor γ and nβ were given.
        """
        alpha = self.alpha if alpha is None else alpha
        if alpha is None:
            raise InputError(
                "alpha is not given, and gamma or n_beta was not either: write "
                "effective_dimension(alpha), or give both to llc.curvature"
            )
        if (
            isinstance(alpha, bool)
            or not isinstance(alpha, int | float)
            or not 0 < alpha < math.inf
        ):
            raise InputError(f"alpha is {alpha!r}, expected a positive number, as gamma/n_beta is")

        def held(h: Array) -> Array:
            positive = np.maximum(h, 0.0)
            return positive / (positive + alpha)

        return self.spectrum.sum_rising(held)

    def __str__(self) -> str:
        parts = []
        if self.alpha is not None:
            parts.append(f"N_eff {_written(*self.effective_dimension())} at alpha {self.alpha:.3g}")
        parts.append(f"trace {_written(self.trace, self.trace_se)}")
        ratio = _written(self.participation_ratio, self.participation_ratio_se)
        parts.append(f"participation ratio {ratio}")
        parts.append(f"rank {_written(self.rank, self.rank_se)} of {self.dimension}")
        return f"{self.matrix}: {', '.join(parts)}"

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON-able values, the effective dimension at γ/nβ among them."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "spectrum"}
        known = self.alpha is not None
        value, error = self.effective_dimension() if known else (None, None)
        values |= {
            "alpha": self.alpha,
            "effective_dimension": value,
            "effective_dimension_se": error,
        }
        values["eigenvalues"] = list(self.eigenvalues)
        return {
            name: None if isinstance(v, float) and not math.isfinite(v) else v
            for name, v in values.items()
        }


def threshold(
    matrix: str, largest: float, dimension: int, given: torch.dtype, computed: torch.dtype
) -> float:
    """Return below what an eigenvalue may be rounding, h_max · max(D · eps, rounding of weights).

    eps is that of the computation. Weights rounded to a relative error e leave in what would be
    zero a singular value of J of order De, squared in the Gauss–Newton matrix, and in the Hessian,
    through residuals, an eigenvalue of order √D e.
    """
    error = torch.finfo(given).eps
    weights = (dimension * error) ** 2 if matrix == "ggn" else dimension**0.5 * error
    return max(dimension * torch.finfo(computed).eps, weights) * max(largest, 0.0)


def spectrum_by_forming(products: Products, start: torch.Tensor) -> Spectrum:
    """Form the matrix and take all of its eigenvalues."""
    matrix = dense(products, start, products.side).double()
    return Spectrum.whole(torch.linalg.eigvalsh(matrix.cpu()).numpy())


def spectrum_by_probes(
    products: Products, start: torch.Tensor, *, top: int, probes: int, steps: int, seed: int
) -> Spectrum:
    """Take the largest eigenvalues one by one, and the rest by Rademacher probes.

    Hutchinson (1990) on what the leading eigenvectors leave over, as Meyer, Musco, Musco &
    Woodruff (2021) do for the trace: the probes' variance is that of the rest alone.
    """
    size = len(start)
    noise = NoiseStreams(seed, "curvature start", 1, start.device)
    known, vectors = leading(products, noise.normal(size, start.dtype)[0], min(top, size - 1))
    streams = NoiseStreams(seed, "curvature probes", probes, start.device)
    signs = (2 * streams.integers(2, size) - 1).to(start.dtype)
    most = max(1, min(steps, size - len(known)))
    parts = [lanczos(products, rows, most, vectors) for rows in signs.split(products.side)]
    diagonal, beside, mass = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Spectrum(known, diagonal, beside, mass)


def _written(value: float, error: float) -> str:
    if not error > 0:
        return f"{value:.4g}"
    return " ± ".join(rounded(value, error))
