"""What an LLC depends on, and where it breaks: short runs on a grid.

No cell is dropped: chains that left for infinity, negative numbers and doubtful ones are results.
"""

from llc.sweeps.grid import Cell, Sweep
from llc.sweeps.run import check_grid, choose, sweep, with_sampler

__all__ = ["Cell", "Sweep", "check_grid", "choose", "sweep", "with_sampler"]
