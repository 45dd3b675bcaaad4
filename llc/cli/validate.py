"""``rlct validate``: every case with a known answer, one table."""

import os
import sys
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from llc import plot
from llc.cli.output import show
from llc.errors import InputError
from llc.files import check_writable, write_whole
from llc.validation import Row, validate

if TYPE_CHECKING:
    from llc.cli.options import Validate as Options

__all__ = ["run"]

MOST_WORKERS = 8


def run(options: "Options") -> int:
    """Run the suite, print and save its table; 1 if it did not pass."""
    if options.quick and options.full:
        raise InputError("--quick and --full given, expected one of them")
    if options.workers is not None and options.workers < 1:
        raise InputError(f"--workers is {options.workers}, expected a whole number of at least 1")
    if options.out is not None:
        check_writable(options.out)
    workers = options.workers or min(MOST_WORKERS, os.cpu_count() or 1)
    torch.set_num_threads(1)
    with tqdm(unit="estimate", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:

        def progress(row: Row, done: int, total: int) -> None:
            bar.total, bar.n = total, done
            bar.set_postfix_str(row.case)

        result = validate(
            "full" if options.full else "quick",
            out=options.out,
            workers=workers,
            progress=progress,
            sampler=options.sampler,
            budget=options.budget,
            precision=options.precision,
            chains=options.chains,
        )
    if options.out is not None:
        result.save(options.out / "validation.json")
        write_whole(options.out / "validation.txt", (result.table() + "\n").encode())
        plot.save(plot.validation(result), options.out / "validation")
    if options.json:
        show(result.to_dict())
    else:
        print(result.table())
    return 0 if result.passed else 1
