"""Every choice that decides an estimate, in one frozen, printable, JSON-able object."""

import json
import math
import numbers
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from llc import parts
from llc.errors import InputError, brief
from llc.files import read_json, write_whole
from llc.presets import PRESETS, WARNING

__all__ = ["SAMPLERS", "Settings"]

MOST = {"chains": 10**6, "draws": 10**10, "burn_in": 10**10}
"""More would never end, and a slip of the keyboard is likelier."""
REQUIRED = ("chains", "precision", "seed")
SAMPLERS = (
    "auto",
    "kinetic",
    "sgld-lm",
    "sgld",
    "sgld-rmsprop",
    "sgld-rmsprop-frozen",
    "sgnht",
    "mala",
    "hmc",
    "malt",
    "devinterp-sgld",
    "devinterp-rmsprop",
)


@dataclass(frozen=True)
class Settings:
    """What to sample, and how.

    Attributes:
        n_beta: nβ; None stands for n/ln n with n the size of the data set.
        gamma: γ; None stands for the rule of `llc.calibrate`.
        sampler: one of ``SAMPLERS``; ``"auto"`` is ``"kinetic"``.
        step_size: ε of the first-order samplers, h of the others; None follows the curvature
            along the chains.
        chains: number of chains, all started at w*.
        draws: kept draws a chain; None goes on until ``precision`` or ``budget``.
        burn_in: discarded steps a chain; None lets the virial decide.
        batch_size: examples a gradient; None takes all where n ≤ 4096, else 512.
        precision: relative half-width of the 95 % interval to reach when ``draws`` is None.
        budget: most gradient evaluations, all chains together.
        behavioural: sample the loss towards the checkpoint's own outputs.
        control_variate: correct each minibatch's gradient by what the same batch errs by at w*,
            for twice the gradients.
        seed: seeds every random stream.
        only: the part of the weights that is sampled, see `llc.parts`; None for all of them.
        reasons: for settings that were chosen, why.
    """

    n_beta: float | None = None
    gamma: float | None = None
    sampler: str = "auto"
    step_size: float | None = None
    chains: int = 4
    draws: int | None = None
    burn_in: int | None = None
    batch_size: int | None = None
    precision: float = 0.05
    budget: int | None = None
    behavioural: bool = False
    control_variate: bool = False
    seed: int = 0
    only: tuple[str, ...] | None = None
    reasons: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise InputError(f"sampler is {self.sampler!r}, expected one of {', '.join(SAMPLERS)}")
        for name in ("n_beta", "gamma", "precision"):
            self._check(name, above=0)
        self._check("step_size", at_least=0)
        for name in ("chains", "draws", "batch_size", "budget"):
            self._check(name, at_least=1, at_most=MOST.get(name), whole=True)
        for name in ("burn_in", "seed"):
            self._check(name, at_least=0, at_most=MOST.get(name), whole=True)
        object.__setattr__(self, "only", parts.as_strings(self.only))

    def _check(self, name: str, **bounds: Any) -> None:
        """Refuse a value out of its range; keep the rest as Python's own int or float."""
        value = getattr(self, name)
        if value is None and name not in REQUIRED:
            return
        _demand(name, value, **bounds)
        kind = int if bounds.get("whole") else float
        object.__setattr__(self, name, kind(value))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able values."""
        only = None if self.only is None else list(self.only)
        return {**asdict(self), "only": only, "reasons": dict(self.reasons)}

    def to_json(self) -> str:
        """Return the settings as JSON text; `from_json` reads it back."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """Read what `to_json` wrote."""
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Settings":
        """Read what `to_dict` returned, and refuse names it does not have."""
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise InputError(
                f"unknown setting {unknown[0]!r}, expected {', '.join(f.name for f in fields(cls))}"
            )
        return cls(**values)

    def save(self, path: str | Path) -> Path:
        """Write the settings as JSON, whole or not at all; `load` reads them back."""
        path = Path(path)
        write_whole(path, (self.to_json() + "\n").encode())
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Settings":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, is no JSON object, or holds what is no setting.
        """
        path = Path(path)
        try:
            values = read_json(path)
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror or error}), expected a file of settings: "
                "write one with rlct calibrate --out, or Settings.save"
            ) from error
        except ValueError as error:
            raise InputError(
                f"{path} is no JSON ({brief(error)}), expected settings as Settings.save writes "
                "them"
            ) from error
        if not isinstance(values, dict) or not isinstance(values.get("reasons", {}), dict):
            raise InputError(
                f"{path} holds other JSON than settings, expected an object as Settings.save "
                "writes it"
            )
        try:
            return cls.from_dict(values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    @classmethod
    def preset(cls, name: str) -> "Settings":
        """Return the settings of published work, each labelled with its source.

        Args:
            name: ``"rllc"``, ``"icl"``, ``"pythia-14m"`` or ``"pythia-6.9b"``; see `llc.presets`.

        Returns:
            Settings with published nβ, γ, ε, sampler, chains and draws, and what else is known.
            They repeat a paper's number; at its nβ that number scales with nβ, and must not be
            compared with numbers at other settings.

        Raises:
            InputError: no preset has that name; the message lists them.
        """
        if name not in PRESETS:
            raise InputError(f"preset is {name!r}, expected one of {', '.join(PRESETS)}")
        preset = PRESETS[name]
        reasons = dict.fromkeys(preset.values, f"preset {name}") | dict(preset.notes)
        reasons["n_beta"] = f"preset {name} ({preset.source}); {WARNING}"
        return cls(**preset.values, reasons=reasons)

    def __str__(self) -> str:
        lines = []
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "reasons" or (f.name == "only" and value is None):
                continue
            value = parts.shown(value) if f.name == "only" else value
            shown = "auto" if value is None else f"{value:.6g}" if _is_real(value) else str(value)
            why = self.reasons.get(f.name)
            lines.append(f"{f.name:<12} {shown}" + (f"  ({why})" if why else ""))
        return "\n".join(lines)


def _is_real(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    try:
        return _is_real(value) and math.isfinite(value)  # pyrefly: ignore
    except OverflowError:  # a whole number beyond all floating-point ones
        return False


def _demand(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: int | None = None,
    whole: bool = False,
) -> None:
    """Refuse what is no number in its range."""
    kind = "a whole number" if whole else "a number"
    bound = f"above {above}" if above is not None else f"of at least {at_least}"
    if at_most is not None:
        bound = f"from {at_least} to {at_most:,}"
    bad = not _is_finite(value) or (whole and value != int(value))
    bad = bad or (above is not None and value <= above)
    bad = bad or (at_least is not None and value < at_least)
    bad = bad or (at_most is not None and value > at_most)
    if bad:
        raise InputError(f"{name} is {value!r}, expected {kind} {bound}")
