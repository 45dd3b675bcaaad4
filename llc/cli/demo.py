"""``rlct demo``: check what was asked for, run one of the demos, say how long it took."""

import importlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from llc.errors import InputError

if TYPE_CHECKING:
    from llc.cli.options import Demo as Options

__all__ = ["run"]

MOST_WORKERS = 8


def run(options: "Options") -> int:
    """Run the demo; finished training runs and estimates in the folder are reused."""
    started = time.perf_counter()
    for name, least in (("steps", 1), ("seed", 0), ("workers", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise InputError(f"--{name} is {value}, expected a whole number of at least {least}")
    out = options.out or Path("runs") / options.name
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file, expected a folder, which may not exist yet")
    workers = options.workers or min(MOST_WORKERS, os.cpu_count() or 1)
    demo = importlib.import_module(f"llc.cli.demos.{options.name.replace('-', '_')}")
    demo.run(options, out, workers)
    print(f"time     {time.perf_counter() - started:.0f} s with {workers} processes")
    return 0
