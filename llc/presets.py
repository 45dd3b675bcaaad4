"""Settings of published work, as data: to repeat a number, never to choose one by.

The localised posterior of these papers is hot: at nβ of 10…60 the chains see a wide bowl around w*
instead of its germ, and λ̂ = nβ(E[L] − L(w*)) scales with nβ. Numbers at different settings are
different quantities.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["PRESETS", "WARNING", "Preset"]

WARNING = "published, not chosen for this model: the LLC scales with n_beta here, so compare it " \
    "only with numbers of the very same settings"  # fmt: skip


@dataclass(frozen=True)
class Preset:
    """What one publication used.

    Attributes:
        source: where it is written.
        values: settings by name: n_beta (nβ), gamma (γ), step_size (ε), sampler, chains, draws
            and burn_in a chain, batch_size. What the source leaves open is absent.
        notes: setting → what has to be known of it.
    """

    source: str
    values: Mapping[str, Any]
    notes: Mapping[str, str]


_PYTHIA = {"n_beta": 30.0, "gamma": 300.0, "sampler": "sgld", "chains": 4, "draws": 100,
           "batch_size": 32}  # fmt: skip
_OPEN = "not stated in our source; until the virial is 1"
_ASSUMED = {"sampler": "not stated in our source, plain SGLD assumed", "burn_in": _OPEN}

PRESETS: Mapping[str, Preset] = {
    "rllc": Preset(
        "refined LLCs of attention heads, Wang et al. 2024, arXiv 2410.02984",
        {"n_beta": 30.0, "gamma": 200.0, "sampler": "sgld", "step_size": 1e-3, "chains": 4,
         "draws": 200},
        {"burn_in": _OPEN, "batch_size": "not stated in our source"},
    ),
    "icl": Preset(
        "in-context linear regression, Hoogland et al. 2024, arXiv 2402.02364, from the authors' "
        "configuration",
        {"n_beta": 60.0, "gamma": 6.0, "sampler": "sgld", "step_size": 1e-3, "chains": 8,
         "draws": 500, "burn_in": 500, "batch_size": 1024},
        {},
    ),
    "pythia-14m": Preset(
        "Pythia 14M, Urdshals et al. 2025, arXiv 2510.12077", {**_PYTHIA, "step_size": 1e-3},
        _ASSUMED,
    ),
    "pythia-6.9b": Preset(
        "Pythia 6.9B, Urdshals et al. 2025, arXiv 2510.12077", {**_PYTHIA, "step_size": 3e-6},
        _ASSUMED,
    ),
}  # fmt: skip
