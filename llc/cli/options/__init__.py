"""Every flag of every command, as frozen dataclasses; names are those of the Python API."""

from typing import Annotated

import tyro

from llc.cli.options.estimates import Calibrate, Estimate, Scale, Symmetries
from llc.cli.options.results import Demo, Doctor, Export, Plot, Report, Transitions, Validate
from llc.cli.options.sampling import Sampled, Sampling
from llc.cli.options.training import Basins, Fourier, Mix, Plant, Refine, Trace, Variants
from llc.cli.options.wording import explain

__all__ = [
    "Basins",
    "Calibrate",
    "Command",
    "Demo",
    "Doctor",
    "Estimate",
    "Export",
    "Fourier",
    "Mix",
    "Plant",
    "Plot",
    "Refine",
    "Report",
    "Sampled",
    "Sampling",
    "Scale",
    "Symmetries",
    "Trace",
    "Transitions",
    "Validate",
    "Variants",
]

explain(Basins, Calibrate, Demo, Doctor, Estimate, Export, Fourier, Mix, Plant, Plot, Refine,
        Report, Scale, Symmetries, Trace, Transitions, Validate)  # fmt: skip

Command = (
    Annotated[Estimate, tyro.conf.subcommand("estimate")]
    | Annotated[Basins, tyro.conf.subcommand("basins")]
    | Annotated[Calibrate, tyro.conf.subcommand("calibrate")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Fourier, tyro.conf.subcommand("fourier")]
    | Annotated[Mix, tyro.conf.subcommand("mix")]
    | Annotated[Plant, tyro.conf.subcommand("plant")]
    | Annotated[Plot, tyro.conf.subcommand("plot")]
    | Annotated[Refine, tyro.conf.subcommand("refine")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Scale, tyro.conf.subcommand("scale")]
    | Annotated[Symmetries, tyro.conf.subcommand("symmetries")]
    | Annotated[Trace, tyro.conf.subcommand("trace")]
    | Annotated[Transitions, tyro.conf.subcommand("transitions")]
    | Annotated[Validate, tyro.conf.subcommand("validate")]
)
