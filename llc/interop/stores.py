"""Trees of xarray on disk: Zarr folders and netCDF files, whole or not at all."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from llc.errors import InputError
from llc.files import write_folder, write_whole

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["open_zarr", "write_netcdf", "write_zarr"]


def write_zarr(tree: "xr.DataTree", path: str | Path) -> Path:
    """Write a tree as a Zarr folder, in the place of an older one.

    Raises:
        InputError: something that is no Zarr folder is in the way, or it cannot be written.
    """
    path = Path(path)
    if path.exists() and not (path / "zarr.json").is_file():
        raise InputError(
            f"{path} exists and is no Zarr folder, expected a place that is free: give another "
            "place, or remove it"
        )

    def write(place: Path) -> None:
        tree.to_zarr(place, mode="w", consolidated=False)

    try:
        write_folder(path, write)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def write_netcdf(tree: "xr.DataTree", path: str | Path) -> Path:
    """Write a tree as one netCDF 4 file.

    Raises:
        InputError: no library for netCDF 4 is installed, or it cannot be written.
    """
    path = Path(path)
    if find_spec("h5netcdf") is None:
        raise InputError(
            "groups in a netCDF file take h5netcdf, which is not installed: pip install "
            "'llc-toolkit[arviz]', or take the format zarr, which needs nothing more"
        )
    content = tree.to_netcdf(engine="h5netcdf")
    try:
        write_whole(path, bytes(content))
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def open_zarr(path: str | Path) -> "xr.DataTree":
    """Open a Zarr folder; values are read when they are looked at.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    import xarray as xr

    if not Path(path).is_dir():
        raise InputError(f"{path} is no folder, expected a Zarr folder of draws")
    try:
        return xr.open_datatree(str(path), engine="zarr", consolidated=False)
    except Exception as error:  # zarr and xarray raise many kinds
        raise InputError(
            f"{path} cannot be read as a Zarr folder ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}): write it anew"
        ) from error


def _unwritable(path: Path, error: OSError) -> InputError:
    why = error.strerror or type(error).__name__
    return InputError(f"{path} cannot be written ({why}): give another place")
