"""Draws for other libraries and from them: ArviZ by xarray, devinterp 2 by Zarr.

xarray and zarr are imported when something is written or read, devinterp never: what stands here is
what its functions read.
"""

from llc.interop.arviz import from_datatree, to_datatree
from llc.interop.draws import TokenDraws
from llc.interop.layout import estimate_tree
from llc.interop.stores import open_zarr, write_netcdf, write_zarr
from llc.interop.tokens import next_token_losses, token_draws

__all__ = [
    "TokenDraws",
    "estimate_tree",
    "from_datatree",
    "next_token_losses",
    "open_zarr",
    "to_datatree",
    "token_draws",
    "write_netcdf",
    "write_zarr",
]
