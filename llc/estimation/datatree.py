"""An estimate's draws in the layout of ArviZ: an xarray DataTree of groups."""

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

import llc
from llc.diagnostics import Array

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["attributes", "datatree"]

MEANS = {
    "llc": "nβ(L(w) − L(w*))",
    "virial": "(nβ δ·∇L + γ‖δ‖²)/D, 1 in equilibrium",
}
PLAIN = (
    "llc", "mcse", "ess", "rhat", "virial", "saturation", "null", "baseline", "sampled_loss",
    "dimension", "gradient_evaluations", "seconds",
)  # fmt: skip


def datatree(facts: Mapping[str, Any], traces: Mapping[str, Array]) -> "xr.DataTree":
    """Lay out draws and controls as ArviZ does (Kumar, Carroll, Hartikainen & Martin 2019).

    Args:
        facts: what `llc.Estimate.to_dict` returns.
        traces: ``trace``, ``burn_in_trace`` and ``virial_trace``, ``(chain, draw)``.

    Returns:
        Groups ``posterior`` (``llc``, whose mean over chains and draws is λ̂), ``sample_stats``
        (``virial``) and ``warmup_posterior`` (``llc``), each with dimensions ``chain`` and
        ``draw``; chains that left for infinity stand in ``diverged``, under their own numbers.
    """
    import xarray as xr

    gone = [int(chain) for chain in facts["diverged"]]
    kept = [chain for chain in range(len(traces["trace"])) if chain not in gone]
    rise, virial = traces["trace"], traces["virial_trace"]
    marks = {
        "inference_library": "llc-toolkit",
        "inference_library_version": llc.__version__,
        "sampling_time": facts["seconds"],
    }
    groups = {
        "/": xr.Dataset(attrs=attributes(facts) | marks),
        "/posterior": _group({"llc": rise}, kept, marks),
        "/sample_stats": _group({"virial": virial}, kept, marks),
    }
    before = traces["burn_in_trace"]
    groups["/warmup_posterior"] = _group({"llc": before}, range(len(before)), marks)
    if gone:
        groups["/diverged"] = _group({"llc": rise, "virial": virial}, gone, marks)
    return xr.DataTree.from_dict(groups)


def attributes(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of an estimate as numbers and text, which every format can hold."""
    settings = facts["settings"]
    found = {name: math.nan if facts[name] is None else facts[name] for name in PLAIN}
    found |= {name: settings[name] for name in ("n_beta", "gamma", "sampler", "seed")}
    found["verdict"] = facts["verdict"]["status"]
    # Whole, so that an Estimate can be made of it again.
    found["estimate"] = json.dumps(facts, allow_nan=False)
    return found


def _group(columns: Mapping[str, Array], chains: Any, marks: Mapping[str, Any]) -> "xr.Dataset":
    import xarray as xr

    chains = np.asarray(list(chains), dtype=np.int64)
    dims = ("chain", "draw")
    values = {
        name: (dims, column[chains], {"long_name": MEANS[name]}) for name, column in columns.items()
    }
    length = next(iter(columns.values())).shape[1]
    coords = {"chain": chains, "draw": np.arange(length)}
    return xr.Dataset(values, coords, dict(marks))
