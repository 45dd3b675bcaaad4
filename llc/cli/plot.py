"""``rlct plot``: a figure of a run folder."""

from typing import TYPE_CHECKING, Any

from llc import plot
from llc.cli.runs import transitions_of
from llc.errors import InputError
from llc.maps import ScaleMap
from llc.trajectory import Point, Trajectory

if TYPE_CHECKING:
    from llc.cli.options import Plot as Options

__all__ = ["run"]


def run(options: "Options") -> int:
    """Load the run, draw, write the files, and say where."""
    result = Trajectory.load(options.folder)
    figure = _draw(options, result)
    target = options.out or options.folder / "figures" / options.figure
    files = plot.save(figure, target)
    if files[0].with_suffix(".caption.txt").exists():
        files.append(files[0].with_suffix(".caption.txt"))
    print("\n".join(map(str, files)))
    return 0


def _draw(options: "Options", result: Trajectory) -> Any:
    others = [Trajectory.load(folder) for folder in options.control]
    if options.figure == "trajectory":
        if len(others) > 1:
            raise InputError(
                f"--control names {len(others)} runs, expected one: --figure runs shows several"
            )
        found = transitions_of(options.folder, result)
        control = others[0] if others else None
        return plot.trajectory(result, control=control, transitions=found)
    if options.figure == "runs":
        return plot.runs([result, *others], names=_names([result, *others], options))
    if others:
        raise InputError(f"--control has no place in --figure {options.figure}: drop it")
    draw = {
        "against": lambda: plot.against(result, x=options.x),
        "portrait": lambda: plot.portrait(result),
        "dimension": lambda: plot.dimension(result),
        "scales": lambda: plot.scale_map(ScaleMap.load(options.folder)),
        "chains": lambda: plot.chains(_point(result, options.step).estimate),
    }
    return draw[options.figure]()


def _names(results: list[Trajectory], options: "Options") -> list[str]:
    """The runs' own names, or their folders' where those are alike."""
    names = [result.name for result in results]
    if len(set(names)) == len(names):
        return names
    return [str(folder) for folder in (options.folder, *options.control)]


def _point(result: Trajectory, step: int | None) -> Point:
    if step is None:
        return result.points[-1]
    for point in result.points:
        if point.step == step:
            return point
    near = min((point.step for point in result.points), key=lambda other: abs(other - step))
    raise InputError(f"--step is {step}, which {result.name} has not; the nearest is {near}")
