"""``rlct fourier``: the frequencies that a network adds with, over training."""

from typing import TYPE_CHECKING

from llc import plot
from llc.cli.output import show
from llc.cli.tasks import load_task
from llc.errors import InputError
from llc.trajectory.circuits import circuits

if TYPE_CHECKING:
    from llc.cli.options import Fourier as Options

__all__ = ["run"]


def run(options: "Options") -> int:
    """Measure every checkpoint; print the births; write ``fourier.json`` and the figure."""
    out = options.out
    if out.exists() and not out.is_dir():
        raise InputError(f"--out is the file {out}, expected a folder")
    result = circuits(
        load_task(options.task), str(options.checkpoints), frequencies=options.frequencies,
        progress=True, step_from=options.step_from, entry=options.entry, drop=options.drop,
    )  # fmt: skip
    (out / "figures").mkdir(parents=True, exist_ok=True)
    path = result.save(out / "fourier.json")
    figures = plot.save(plot.circuits(result), out / "figures" / "fourier")
    if options.json:
        show(result.to_dict(), indent=None)
        return 0
    print(result)
    print(f"\ntable    {path}")
    print("figures  " + "\n         ".join(map(str, figures)))
    return 0
