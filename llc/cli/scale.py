"""``rlct scale``: effective dimension against γ for one checkpoint, a table, a figure."""

from typing import TYPE_CHECKING

from llc import plot
from llc.checkpoints import load_weights
from llc.cli.output import show
from llc.cli.tasks import arguments_of, load_task
from llc.errors import InputError
from llc.files import check_writable, write_whole
from llc.scale import scale_curve

if TYPE_CHECKING:
    from llc.cli.options import Scale as Options

__all__ = ["run"]


def run(options: "Options") -> int:
    """Load, measure the curve, print it; write table, JSON and figure into ``--out``."""
    gammas = None if options.gammas is None else _numbers(options.gammas)
    out = options.out
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file, expected a folder, which may not exist yet")
    if out is not None:
        check_writable(out)
    weights = load_weights(options.checkpoint, options.entry, options.drop)
    curve = scale_curve(
        load_task(options.task, arguments_of(options)).at(weights),
        gammas=gammas,
        n_beta=options.n_beta,
        chains=options.chains,
        precision=options.precision,
        budget=options.budget,
        batch_size=options.batch_size,
        only=options.only,
        behavioural=options.behavioural,
        control_variate=options.control_variate,
        seed=options.seed,
        device=options.device,
        compile=options.compile,
        memory=options.memory,
        autocast=options.autocast,
        progress=True,
    )
    if out is not None:
        curve.save(out / "scale.json")
        write_whole(out / "scale.txt", (curve.table() + "\n").encode())
        plot.save(plot.scale_curve(curve), out / "scale")
    if options.json:
        record = {"checkpoint": options.checkpoint.name, **curve.to_dict()}
        show(record)
    else:
        print(curve.table())
    return 0


def _numbers(text: str) -> list[float]:
    """Read numbers between commas."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"--gammas is {text!r}, expected numbers between commas, as 1000,300,100"
        ) from None
