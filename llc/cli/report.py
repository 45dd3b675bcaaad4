"""``rlct report``: a run folder as one HTML page."""

from typing import TYPE_CHECKING

from llc.cli.runs import transitions_of, versions_of
from llc.report import write_report
from llc.trajectory import Trajectory

if TYPE_CHECKING:
    from llc.cli.options import Report as Options

__all__ = ["run"]


def run(options: "Options") -> int:
    """Load the run, write the page, and say where."""
    result = Trajectory.load(options.folder)
    control = None if options.control is None else Trajectory.load(options.control)
    path = write_report(
        result,
        options.out or options.folder / "report.html",
        transitions=transitions_of(options.folder, result),
        control=control,
        versions=versions_of(options.folder),
    )
    print(path)
    return 0
