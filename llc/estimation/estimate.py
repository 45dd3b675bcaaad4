"""The result object: a number that never travels without its error bar and verdict."""

import dataclasses
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from llc.archives import UNREADABLE, read_arrays
from llc.diagnostics import Array
from llc.errors import InputError, brief
from llc.estimation.datatree import datatree
from llc.estimation.errors import ErrorBudget, error_budget
from llc.estimation.verdict import Reason, Verdict
from llc.files import read_json, write_whole
from llc.settings import Settings

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["TRACES", "Estimate", "rounded"]

TRACES = ("trace", "burn_in_trace", "virial_trace")


@dataclass(frozen=True)
class Estimate:
    """A local learning coefficient with everything needed to judge it.

    Attributes:
        llc: λ̂ = nβ(E[L] − L(w*)), burn-in and diverged chains left out; nan if all diverged.
        mcse: Monte-Carlo standard error of ``llc``; where it was what ended the run, corrected for
            having been waited for.
        ess: effective sample size.
        rhat: split R-hat.
        virial: E[V + R]/D over kept chains, 1 in equilibrium.
        chain_virials: the same, chain by chain (kept ones).
        tensor_virials: the same, weight tensor by weight tensor, read every 25 steps: where the
            chains have not arrived. Only at their last positions with a step size given.
        saturation: ``llc`` over ``null``; near 1 the number is flatness at radius 1/√γ.
        null: prior-only null λ̂₀, ``null_se`` its standard error.
        slope_gamma: dλ̂/d ln γ, ``slope_gamma_se`` its standard error.
        slope_n_beta: dλ̂/d ln nβ, ``slope_n_beta_se`` its standard error.
        variance_llc: a second reading of λ, Var(nβ(L − L*)) less subsampling noise;
            ``variance_llc_se`` its standard error.
        two_temperature_llc: a third, from the energies at two temperatures;
            ``two_temperature_llc_se`` its standard error; nan with minibatches.
        size: n, the number of examples; None for a potential.
        baseline: L(w*).
        sampled_loss: mean loss of the draws.
        chance: loss of a guess blind to the inputs, or None where unknown.
        distance: root-mean-square distance from w* over that of the prior, √(D/γ).
        gradient_shift: lower bound, in LLC units, on what the gradient at w*, over all data,
            takes off λ̂; nan where minibatches leave that too dear to know.
        heat: relative over-estimate by minibatch noise.
        discretisation: over-estimate by the step itself, in LLC units.
        rounding: over-estimate by rounding to half precision, in LLC units; 0 where no half
            precision takes part, nan where it could not be measured.
        stiffness: step times largest curvature at the end, in units of the stability analysis.
        dimension: D, number of sampled parameters.
        vectorised: whether chains ran side by side; False where the model cannot be vectorised
            and they ran one after another.
        acceptance: mean probability of acceptance; nan for samplers that refuse nothing.
        execution: how it was computed, in words: chains side by side, memory, recording.
        diverged: chains excluded.
        friction: Γ of the kinetic sampler, or None.
        verdict: status, reasons, sentences.
        settings: as resolved: nothing in them is None but ``budget``, and ``batch_size`` when
            every gradient saw all data.
        gradient_evaluations: of all chains together; burn-in, probes and the choice of γ
            included.
        seconds: wall time.
        trace: nβ(L − L(w*)), shape ``(chain, draw)``, diverged chains included.
        burn_in_trace: what came before, ``(chain, step)``: from the last restart on, while the step
            size was still changing.
        virial_trace: (V + R)/D, of the draws.
    """

    llc: float
    mcse: float
    ess: float
    rhat: float
    virial: float
    chain_virials: tuple[float, ...]
    tensor_virials: dict[str, float]
    saturation: float
    null: float
    null_se: float
    slope_gamma: float
    slope_gamma_se: float
    slope_n_beta: float
    slope_n_beta_se: float
    variance_llc: float
    variance_llc_se: float
    two_temperature_llc: float
    two_temperature_llc_se: float
    size: int | None
    baseline: float
    sampled_loss: float
    chance: float | None
    distance: float
    gradient_shift: float
    heat: float
    discretisation: float
    rounding: float
    stiffness: float
    dimension: int
    vectorised: bool
    acceptance: float
    execution: str
    diverged: tuple[int, ...]
    friction: float | None
    verdict: Verdict
    settings: Settings
    gradient_evaluations: int
    seconds: float
    trace: Array = dataclasses.field(repr=False, compare=False)
    burn_in_trace: Array = dataclasses.field(repr=False, compare=False)
    virial_trace: Array = dataclasses.field(repr=False, compare=False)

    @property
    def errors(self) -> ErrorBudget:
        """Every known error in LLC units: the sampler's, and the price of nβ and γ."""
        return error_budget(self)

    @property
    def wbic(self) -> float:
        """n·E[L(w)], Watanabe's (2013) estimate of the free energy if nβ = n/ln n.

        Nan for a potential, which has no n. L is the loss as given: the criterion is that of a
        model if it is a mean negative log-likelihood.
        """
        return math.nan if self.size is None else self.size * self.sampled_loss

    def interval(self, probability: float = 0.9) -> tuple[float, float]:
        """Return the central interval around ``llc`` of a normal error of size ``errors.total``.

        Monte-Carlo error, minibatch heat, the step's bias and modes that have not arrived are in
        it, as if independent; what nβ and γ take off the limit λ is not.

        Raises:
            InputError: the probability is not inside (0, 1).
        """
        if not 0 < probability < 1:
            raise InputError(f"probability is {probability}, expected a number between 0 and 1")
        half = NormalDist().inv_cdf(0.5 + probability / 2) * self.errors.total
        return self.llc - half, self.llc + half

    def __str__(self) -> str:
        if math.isnan(self.llc):
            return f"LLC not measured ({self.verdict.sentences[0]}) {self.verdict}"
        number, error = rounded(self.llc, self.mcse)
        return (
            f"LLC {number} ± {error} (virial {self.virial:.2f}, R-hat {self.rhat:.3f}, "
            f"ESS {self.ess:.0f}, saturation {self.saturation:.2f}) {self.verdict}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the traces as JSON-able values; nan becomes None."""
        values = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in (*TRACES, "verdict", "settings")
        }
        values = {name: _jsonable(value) for name, value in values.items()}
        values["verdict"] = {
            "status": self.verdict.status,
            "reasons": [reason.name for reason in self.verdict.reasons],
            "sentences": list(self.verdict.sentences),
            "readings": list(self.verdict.readings),
        }
        values["settings"] = self.settings.to_dict()
        return values

    def save(self, path: str | Path) -> Path:
        """Write ``path`` (JSON) and, beside it, the traces (``.npz``); `load` reads both."""
        path = Path(path).with_suffix(".json")
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{name: getattr(self, name) for name in TRACES})
        write_whole(path.with_suffix(".npz"), buffer.getvalue())
        write_whole(path, json.dumps(self.to_dict(), indent=1, allow_nan=False).encode())
        return path

    def to_datatree(self) -> "xr.DataTree":
        """Return draws and controls as ArviZ takes them: an xarray DataTree.

        Group ``posterior`` holds ``llc``, nβ(L(w) − L(w*)) with dimensions (chain, draw), so that
        ArviZ's summary of it repeats ``llc``, ``ess`` and ``rhat``; ``sample_stats`` holds the
        virial, ``warmup_posterior`` the burn-in, ``diverged`` the chains that are left out.
        `llc.interop.from_datatree` makes an `Estimate` of it again.
        """
        return datatree(self.to_dict(), {name: getattr(self, name) for name in TRACES})

    @classmethod
    def load(cls, path: str | Path) -> "Estimate":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing or is no saved estimate.
        """
        path = Path(path).with_suffix(".json")
        try:
            values = read_json(path)
            arrays = read_arrays(path.with_suffix(".npz"))
            traces: dict[str, Any] = {name: arrays[name] for name in TRACES}
            return dataclasses.replace(cls.from_dict(values), **traces)
        except UNREADABLE as error:
            raise InputError(f"{path} is not a saved estimate: {brief(repr(error))}") from error

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Estimate":
        """Rebuild what `to_dict` returned; the traces, which it leaves out, have no draws."""
        empty = np.empty((values["settings"]["chains"], 0))
        everything: dict[str, Any] = _from_json(values) | dict.fromkeys(TRACES, empty)
        return cls(**everything)


def _from_json(values: dict[str, Any]) -> dict[str, Any]:
    """Turn what `Estimate.to_dict` returned back into its fields."""
    verdict = values["verdict"]
    read = {
        **values,
        "settings": Settings.from_dict(values["settings"]),
        "verdict": Verdict(
            verdict["status"],
            tuple(Reason[name] for name in verdict["reasons"]),
            tuple(verdict["sentences"]),
            tuple(verdict["readings"]),
        ),
    }
    for name in ("chain_virials", "diverged"):
        read[name] = tuple(values[name])
    for f in dataclasses.fields(Estimate):
        if f.type is float and values.get(f.name) is None:
            read[f.name] = math.nan
        elif f.type in (float, int):
            _demand_numbers(f.name, values[f.name])
    _demand_numbers("chain_virials", *values["chain_virials"])
    _demand_numbers("tensor_virials", *dict(values["tensor_virials"]).values())
    return read


def _demand_numbers(name: str, *values: Any) -> None:
    """A file may hold anything: what is no number fails here, and not in the middle of a figure."""
    for value in values:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise TypeError(f"{name} is {value!r}, no number")


def rounded(value: float, error: float) -> tuple[str, str]:
    """Write a number and its error to the error's first digit, or second if the first is 1."""
    if not (math.isfinite(error) and error > 0):
        return f"{value:.4g}", f"{error:.2g}"
    exponent = math.floor(math.log10(error))
    leading = round(error / 10**exponent, 6)
    places = max(0, -exponent + (1 if leading < 2 else 0))
    return f"{value:.{places}f}", f"{error:.{places}f}"


def _jsonable(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
