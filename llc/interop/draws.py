"""Losses by token over a posterior, as devinterp 2 stores them: ours and its own."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llc import diagnostics
from llc.diagnostics import Array
from llc.errors import InputError, brief, some
from llc.estimation import Estimate
from llc.estimation.estimate import rounded
from llc.interop.layout import identifier
from llc.interop.stores import open_zarr, write_zarr

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["TokenDraws"]


@dataclass(frozen=True)
class TokenDraws:
    """Losses by token over a posterior, around a tree of devinterp's layout.

    `llc.interop.token_draws` samples them, `load` reads them, devinterp's own included.

    Attributes:
        tree: xarray DataTree as devinterp's ``sample`` returns it, and as its ``compute_llc``,
            ``compute_bif`` and ``compute_susceptibilities`` take it. Values of a file are read
            when they are looked at.

    Raises:
        InputError: the tree is laid out otherwise.
    """

    tree: "xr.DataTree"

    def __post_init__(self) -> None:
        try:
            self._config["n_beta"], self._config["num_burnin_steps"]
            dims = self._step_losses.dims, self.tree["init_loss"].dims
        except (LookupError, TypeError) as error:
            raise InputError(
                f"the tree is not as devinterp 2 writes it ({brief(repr(error))}), expected "
                "sampling_loss_micro, init_loss and metadata: give what its sample returned, or "
                "what llc.interop.token_draws did"
            ) from error
        if dims != (("chain", "step", "batch_sampling", "token_pos"), ("chain", "token_pos")):
            raise InputError(
                f"the losses have dimensions {dims}, expected (chain, step, batch_sampling, "
                "token_pos) and (chain, token_pos), as devinterp 2 writes them"
            )

    @classmethod
    def load(cls, path: str | Path) -> "TokenDraws":
        """Read a Zarr folder that `save` or devinterp's ``sample(output_path=...)`` wrote.

        Raises:
            InputError: there is none, or it is laid out otherwise.
        """
        return cls(open_zarr(path))

    def save(self, path: str | Path) -> Path:
        """Write a Zarr folder, whole or not at all; devinterp opens it as its own."""
        return write_zarr(self.tree, path)

    @property
    def n_beta(self) -> float:
        """nβ of the chains."""
        return float(self._config["n_beta"])

    @property
    def gamma(self) -> float:
        """γ of the chains, devinterp's ``localization``."""
        return float(self._config["localization"])

    @property
    def paired(self) -> bool:
        """Whether the loss at w* is that of the same sequences; devinterp's is of others."""
        return "llc_toolkit" in self.tree.attrs

    @property
    def names(self) -> tuple[str, ...]:
        """Identifiers of the observables, in the order they were given."""
        found = self.tree.attrs["metadata"]["config"].get("observables", ())
        return tuple(str(each["obs_id"]) for each in found)

    def losses(self, name: str) -> Array:
        """Return an observable's losses, ``(chain, draw, sequence, token)``, kept chains only."""
        values = self._variable(f"loss_{name}", f"loss_{identifier(name)}").values
        return np.asarray(values, dtype=float)[self.kept]

    def tokens(self, name: str) -> np.ndarray:
        """Return an observable's sequences, ``(sequence, token + 1)``."""
        return self._variable(f"input_ids_{name}", f"input_ids_{identifier(name)}").values

    @cached_property
    def kept(self) -> np.ndarray:
        """Numbers of the chains whose every loss is finite."""
        return np.flatnonzero(np.isfinite(self._steps).all(1))

    @property
    def baseline(self) -> float:
        """Mean loss at w*, as far as the file knows it."""
        return float(np.asarray(self.tree["init_loss"].values, dtype=float).mean())

    @property
    def trace(self) -> Array:
        """nβ(L(w) − L(w*)) of kept chains, burn-in left out, ``(chain, draw)``.

        Of devinterp's files every step of production counts, not only those where observables
        were looked at.
        """
        burn_in = int(self._config["num_burnin_steps"])
        return self.n_beta * (self._steps[self.kept, burn_in:] - self.baseline)

    @property
    def llc(self) -> float:
        """λ̂ from ``trace``; devinterp's ``compute_llc`` differs by averaging burn-in in."""
        self._refuse_nothing()
        return float(self.trace.mean())

    @property
    def mcse(self) -> float:
        """Monte-Carlo standard error of ``llc``; that of L(w*) is ``baseline_se``."""
        return diagnostics.mcse(self.trace)

    @property
    def ess(self) -> float:
        """Effective sample size of ``trace``."""
        return diagnostics.ess(self.trace)

    @property
    def rhat(self) -> float:
        """Split R-hat of ``trace``."""
        return diagnostics.rhat(self.trace)

    @property
    def baseline_se(self) -> float:
        """Standard error that an unpaired L(w*) adds to ``llc``; 0 where it is paired.

        From the spread of single sequences' losses in the sampler's batches, over as many
        sequences as devinterp took for L(w*), all of them different: more than it is where the
        data hold fewer.
        """
        if self.paired:
            return 0.0
        c = self._config
        count = c["batch_size"] * c["gradient_accumulation_steps"] * c["num_init_loss_batches"]
        if not c["match_sampling_input_ids_across_chains"]:
            count *= c["num_chains"]
        if self._step_losses.sizes["batch_sampling"] < 2:
            return math.nan
        each = self._step_losses.mean("token_pos", dtype=float)
        spread = np.asarray(each.var("batch_sampling", ddof=1).values)[self.kept]
        return self.n_beta * math.sqrt(float(spread.mean()) / count)

    @property
    def estimate(self) -> Estimate | None:
        """The estimate whose chains went on to these draws, its traces left out; else None."""
        found = self.tree.attrs.get("llc_toolkit")
        return None if found is None else Estimate.from_dict(found["estimate"])

    def __str__(self) -> str:
        error = math.hypot(self.mcse, self.baseline_se)
        number, error = rounded(self.llc, error)
        chains, draws = self.trace.shape
        pairing = "paired" if self.paired else f"L(w*) unpaired, ± {self.baseline_se:.2g} of it"
        return (
            f"LLC {number} ± {error} ({pairing}; R-hat {self.rhat:.3f}, ESS {self.ess:.0f}, "
            f"{chains} chains of {draws} draws, {len(self.names)} observables)"
        )

    @property
    def _config(self) -> dict[str, Any]:
        return self.tree.attrs["metadata"]["config"]["sampler"]

    @property
    def _step_losses(self) -> "xr.DataArray":
        return self.tree.dataset["sampling_loss_micro"]

    @cached_property
    def _steps(self) -> Array:
        """Mean loss of every step, ``(chain, step)``, in double precision."""
        means = self._step_losses.mean(["batch_sampling", "token_pos"], dtype=float, skipna=False)
        return np.asarray(means.values)

    def _refuse_nothing(self) -> None:
        if not self.trace.size:
            raise InputError(
                "no chain has a finite loss at every step after burn-in: sample again with a "
                "smaller step"
            )

    def _variable(self, *names: str) -> "xr.DataArray":
        for name in names:
            if name in self.tree.dataset:
                return self.tree.dataset[name]
        raise InputError(
            f"there is no observable {names[0].partition('_')[2]!r}, expected one of "
            f"{some(self.names, 8) or 'none: the file holds none'}"
        )
