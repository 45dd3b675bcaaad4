"""From the flags of a command to settings: a file or a preset first, explicit flags over it."""

from dataclasses import MISSING, fields, replace
from typing import TYPE_CHECKING

from llc.errors import InputError
from llc.execution import Execution
from llc.settings import Settings

if TYPE_CHECKING:
    from llc.cli.options import Sampling

__all__ = ["execution_of", "explained", "settings_of"]

NAMES = tuple(f.name for f in fields(Settings) if f.name != "reasons")
DEFAULTS = {"budget": "default; draws are fixed, and need none"}
SWITCHES = ("behavioural", "control_variate")


def settings_of(options: "Sampling") -> Settings:
    """Collect settings from ``--settings`` or ``--preset``, overruled by flags given beside it.

    A flag left out is None, a switch left out False; a switch cannot be turned off here. A
    precision given reopens the number of draws.

    Raises:
        InputError: both sources are given, or one of them cannot be used.
    """
    if options.settings is not None and options.preset is not None:
        raise InputError(
            f"--settings {options.settings} and --preset {options.preset} given, expected one of "
            "them: flags beside it can change single settings"
        )
    base = Settings()
    if options.settings is not None:
        base = Settings.load(options.settings)
    elif options.preset is not None:
        base = Settings.preset(options.preset)
    given = {name: getattr(options, name) for name in NAMES if name not in SWITCHES}
    given = {name: value for name, value in given.items() if value is not None}
    given |= {name: True for name in SWITCHES if getattr(options, name)}
    if "precision" in given and "draws" not in given:
        # A number of draws kept from elsewhere would make the precision asked for idle.
        given["draws"] = None
    # An overruled choice's reason goes with it.
    reasons = {name: why for name, why in base.reasons.items() if name not in given}
    return replace(base, **given, reasons=reasons)


def execution_of(options: "Sampling") -> Execution:
    """Collect where and how to compute."""
    return Execution(
        options.device, options.compile, options.memory, options.autocast, options.seconds
    )


def explained(chosen: Settings, asked: Settings) -> Settings:
    """Give every setting a reason: those without one were asked for, or are defaults."""
    reasons = dict(chosen.reasons)
    for f in fields(Settings):
        if f.name in reasons or f.name == "reasons":
            continue
        if f.name == "only" and chosen.only is None:
            continue  # which is not printed either
        default = None if f.default is MISSING else f.default
        given = getattr(asked, f.name) != default
        reasons[f.name] = "as given" if given else DEFAULTS.get(f.name, "default")
    return replace(chosen, reasons=reasons)
