"""``rlct export``: a run folder in the formats of other programs."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from llc import interop
from llc.errors import InputError
from llc.trajectory import Trajectory

if TYPE_CHECKING:
    from llc.cli.options import Export as Options

__all__ = ["run"]


def run(options: "Options") -> int:
    """Load the run, write it, and say where."""
    result = Trajectory.load(options.folder)
    target = options.out or options.folder / "export" / _NAMES[options.format]
    print("\n".join(map(str, _WRITERS[options.format](result, target))))
    return 0


def _csv(result: Trajectory, target: Path) -> list[Path]:
    if target.is_dir():
        raise InputError(f"--out is {target}, a folder; csv is one file: give its name")
    return [result.to_csv(target)]


def _netcdf(result: Trajectory, target: Path) -> list[Path]:
    if target.is_dir():
        raise InputError(f"--out is {target}, a folder; netcdf is one file: give its name")
    return [interop.write_netcdf(interop.to_datatree(result), target)]


def _zarr(result: Trajectory, target: Path) -> list[Path]:
    return [interop.write_zarr(interop.to_datatree(result), target)]


def _devinterp(result: Trajectory, target: Path) -> list[Path]:
    """One Zarr folder a checkpoint: devinterp's trees are of one posterior each."""
    if target.exists() and not target.is_dir():
        raise InputError(f"--out is {target}, a file; devinterp takes a folder of Zarr folders")
    points = [p for p in result.points if len(p.estimate.diverged) < p.estimate.settings.chains]
    if not points:
        raise InputError("every chain of every checkpoint left for infinity: no draws to write")
    return [
        interop.write_zarr(interop.estimate_tree(p.estimate), target / f"step_{p.step:07d}.zarr")
        for p in points
    ]


_NAMES = {
    "csv": "trajectory.csv",
    "netcdf": "draws.nc",
    "zarr": "draws.zarr",
    "devinterp": "devinterp",
}
_WRITERS: dict[str, Callable[[Trajectory, Path], list[Path]]] = {
    "csv": _csv,
    "netcdf": _netcdf,
    "zarr": _zarr,
    "devinterp": _devinterp,
}
