"""Estimates and runs as ArviZ reads them, and back."""

import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from llc.diagnostics import Array
from llc.errors import InputError, brief
from llc.estimation import Estimate
from llc.estimation.estimate import TRACES
from llc.trajectory import Trajectory
from llc.trajectory.trajectory import COLUMNS

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["from_datatree", "to_datatree"]

STATUS = ("ok", "warn", "fail")


def to_datatree(result: Estimate | Trajectory) -> "xr.DataTree":
    """Return an estimate or a run as an xarray DataTree.

    Args:
        result: of an `Estimate` the tree is that of `Estimate.to_datatree`. A `Trajectory` has at
            its root one value a checkpoint under the dimension ``step`` (the estimate's numbers,
            the checkpoints' own, ``verdict`` as 0, 1, 2 for ok, warn, fail), and under
            ``step_0000100`` and so on the tree of each estimate.
    """
    import xarray as xr

    if isinstance(result, Estimate):
        return result.to_datatree()
    names = [*COLUMNS, *(n for n in result.metadata_names if n not in COLUMNS)]
    values: dict[str, Any] = {name: ("step", result.column(name)) for name in names}
    verdicts = [STATUS.index(point.estimate.verdict.status) for point in result.points]
    flags = {"flag_values": [0, 1, 2], "flag_meanings": " ".join(STATUS)}
    values["verdict"] = ("step", np.array(verdicts, dtype=np.int64), flags)
    attributes = {
        "name": result.name,
        "settings": json.dumps(result.settings.to_dict()),
        "skipped": json.dumps({str(step): why for step, why in result.skipped.items()}),
    }
    steps = [point.step for point in result.points]
    # ArviZ has no word for training steps: a tree's own name keeps those of a checkpoint apart.
    root = xr.Dataset(values, {"step": np.array(steps, dtype=np.int64)}, attributes)
    tree = xr.DataTree(root)
    for point in result.points:
        tree[f"step_{point.step:07d}"] = point.estimate.to_datatree()
    return tree


def from_datatree(tree: "xr.DataTree") -> Estimate:
    """Make the `Estimate` again that `Estimate.to_datatree` made a tree of, value by value.

    Args:
        tree: as made, or as read from a file: ``xarray.open_datatree`` of Zarr or netCDF, of a run
            one checkpoint, ``tree["step_0000100"]``.

    Raises:
        InputError: the tree holds no estimate of this toolkit.
    """
    try:
        facts = json.loads(tree.attrs["estimate"])
        groups = {
            name: tree[name].dataset.load()
            for name in ("posterior", "sample_stats", "warmup_posterior", "diverged")
            if name in tree.children
        }
        traces = {
            "trace": _joined(groups, "posterior", "llc"),
            "virial_trace": _joined(groups, "sample_stats", "virial"),
            "burn_in_trace": np.asarray(groups["warmup_posterior"]["llc"].values, dtype=float),
        }
        assert set(traces) == set(TRACES)
        empty = Estimate.from_dict(facts)
    except (LookupError, ValueError, TypeError) as error:
        raise InputError(
            f"the tree holds no estimate of llc-toolkit ({brief(repr(error))}): give one that "
            "Estimate.to_datatree made; draws of devinterp are read by llc.interop.TokenDraws.load"
        ) from error
    return dataclasses.replace(empty, **traces)


def _joined(groups: Mapping[str, Any], group: str, name: str) -> Array:
    """Put kept and diverged chains back into one array, by their numbers."""
    parts = [groups[place][name] for place in (group, "diverged") if place in groups]
    chains = np.concatenate([part["chain"].values for part in parts])
    rows = np.concatenate([np.asarray(part.values, dtype=float) for part in parts])
    return rows[np.argsort(chains)]
