"""What was found in a curve: transitions, or the reason why there are none."""

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llc.errors import InputError, brief
from llc.estimation.estimate import rounded
from llc.files import read_json, write_whole

__all__ = ["Kind", "Plateau", "Stage", "Transition", "Transitions", "Verdict"]

Kind = Literal["up", "down", "plateau edge"]
Verdict = Literal["jumps", "smooth", "constant"]


@dataclass(frozen=True)
class Transition:
    """One abrupt change of the LLC.

    Attributes:
        step: training step at which the curve is half-way between the two levels.
        interval: steps between which the change lies, with 90 % probability over resampled chains;
            never narrower than the checkpoints around it.
        jump: difference of the two levels, in LLC units.
        jump_se: its standard error, from resampled chains and the plateaus' own drift.
        kind: ``"up"``, ``"down"``, or ``"plateau edge"`` where the curve begins or ends in
            transition and ``jump`` is only what was seen of it.
        support: share of resamples in which it is found.
    """

    step: float
    interval: tuple[float, float]
    jump: float
    jump_se: float
    kind: Kind
    support: float

    def __str__(self) -> str:
        number, error = rounded(self.jump, self.jump_se)
        size = number.removeprefix("-") if self.kind == "down" else number
        low, high = self.interval
        return (
            f"{self.kind} by {size} ± {error} at step {self.step:.0f} ({low:.0f} to {high:.0f}), "
            f"in {self.support:.0%} of resamples"
        )


@dataclass(frozen=True)
class Plateau:
    """Steps over which the LLC stays on one level.

    Attributes:
        start: first checkpoint's step.
        end: last checkpoint's step.
        llc: level.
        se: its standard error.
    """

    start: float
    end: float
    llc: float
    se: float


@dataclass(frozen=True)
class Stage:
    """Steps over which the smooth curve goes one way; stages meet where its slope vanishes.

    Attributes:
        start: first step.
        end: last step.
        direction: ``"rising"``, ``"falling"``, or ``"flat"`` where the slope is within two standard
            deviations of zero, and the difference of the ends within three.
    """

    start: float
    end: float
    direction: Literal["rising", "falling", "flat"]


class Transitions(list[Transition]):
    """A list of transitions that also says which model explains the curve, and by how much.

    Attributes:
        name: of the trajectory.
        verdict: ``"jumps"``, ``"smooth"`` or ``"constant"``; the list is empty unless it is the
            first.
        evidence: ln evidence of each of the three models; differences of them count.
        plateaus: of the jump model, where it holds.
        stages: of the smooth curve, whatever the verdict.
        curve: the smooth curve by checkpoint: ``"step"``, ``"mean"``, ``"sd"``, ``"slope"`` and
            ``"slope_sd"`` (LLC per e-fold of steps).
        jitter: drift of plateaus that the errors do not cover, relative to the LLC.
        left_out: step → sentence, for checkpoints that had no say.
        doubted: step → sentence, for checkpoints held for less certain than they say.
        prior_dominated: steps whose LLC is mostly flatness at radius 1/√γ.
    """

    def __init__(
        self,
        found: Iterable[Transition],
        *,
        name: str,
        verdict: Verdict,
        evidence: Mapping[str, float],
        plateaus: tuple[Plateau, ...] = (),
        stages: tuple[Stage, ...] = (),
        curve: Mapping[str, list[float]] | None = None,
        jitter: float = 0.0,
        left_out: Mapping[int, str] | None = None,
        doubted: Mapping[int, str] | None = None,
        prior_dominated: Iterable[int] = (),
    ) -> None:
        super().__init__(found)
        self.name = name
        self.verdict: Verdict = verdict
        self.evidence = dict(evidence)
        self.plateaus = tuple(plateaus)
        self.stages = tuple(stages)
        self.curve = dict(curve or {})
        self.jitter = jitter
        self.left_out = dict(left_out or {})
        self.doubted = dict(doubted or {})
        self.prior_dominated = tuple(prior_dominated)

    @property
    def margin(self) -> float:
        """Log evidence of jumps less that of the better of the two models without them."""
        return self.evidence["jumps"] - max(self.evidence["smooth"], self.evidence["constant"])

    def __str__(self) -> str:
        return "\n".join([f"{self.name}: {self.headline}", *self._lines()])

    @property
    def headline(self) -> str:
        """The verdict in one sentence."""
        other = "smooth" if self.evidence["smooth"] >= self.evidence["constant"] else "constant"
        against = "a smooth curve" if other == "smooth" else "a constant"
        if self.verdict == "jumps":
            count = f"{len(self)} transition{'' if len(self) == 1 else 's'}"
            return (
                f"{count}; jumps explain the curve better than {against} by {self.margin:.1f} nats"
            )
        what = {"smooth": "a smooth curve", "constant": "a constant"}[self.verdict]
        if self.margin < 0:
            return f"no jumps: {what} explains it better by {-self.margin:.1f} nats"
        return (
            f"no jumps: {what} explains it about as well (jumps are {self.margin:.1f} nats ahead, "
            "which noise alone may do)"
        )

    def _lines(self) -> list[str]:
        lines = [f"  {transition}" for transition in self]
        if self.verdict == "jumps":
            for p in self.plateaus:
                value, error = rounded(p.llc, p.se)
                lines.append(f"  plateau {value} ± {error}, steps {p.start:.0f} to {p.end:.0f}")
        else:
            for s in self.stages:
                lines.append(f"  {s.direction}, steps {s.start:.0f} to {s.end:.0f}")
        if self.jitter and self.verdict == "jumps":
            lines.append(f"  plateaus drift by {self.jitter:.1%} beyond their errors")
        return [*lines, *(f"  {note}" for note in self.notes)]

    @property
    def notes(self) -> list[str]:
        """What stands against single checkpoints, in a line for each kind."""
        lines = []
        for what, which in (("left out", self.left_out), ("held for uncertain", self.doubted)):
            if which:
                why = next(iter(which.values()))
                first = "" if len(which) == 1 else "the first: "
                lines.append(f"{what}: {_steps(which)} ({first}{why})")
        if self.prior_dominated:
            lines.append(
                f"mostly flatness at radius 1/√gamma: {_steps(self.prior_dominated)} (there the "
                "curve may be the prior-only null's own)"
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return {
            "name": self.name,
            "verdict": self.verdict,
            "sentence": self.headline,
            "transitions": [dataclasses.asdict(transition) for transition in self],
            "evidence": self.evidence,
            "plateaus": [dataclasses.asdict(plateau) for plateau in self.plateaus],
            "stages": [dataclasses.asdict(stage) for stage in self.stages],
            "curve": self.curve,
            "jitter": self.jitter,
            "left_out": {str(step): why for step, why in self.left_out.items()},
            "doubted": {str(step): why for step, why in self.doubted.items()},
            "prior_dominated": list(self.prior_dominated),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Transitions":
        """Rebuild what `to_dict` returned."""
        return cls(
            [
                dataclasses.replace(Transition(**t), interval=tuple(t["interval"]))
                for t in values["transitions"]
            ],
            name=values["name"],
            verdict=values["verdict"],
            evidence=values["evidence"],
            plateaus=tuple(Plateau(**p) for p in values["plateaus"]),
            stages=tuple(Stage(**s) for s in values["stages"]),
            curve=values["curve"],
            jitter=values["jitter"],
            left_out={int(step): why for step, why in values["left_out"].items()},
            doubted={int(step): why for step, why in values["doubted"].items()},
            prior_dominated=values["prior_dominated"],
        )

    def save(self, path: str | Path) -> Path:
        """Write JSON, whole or not at all; `load` reads it back."""
        path = Path(path)
        write_whole(path, (json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n").encode())
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Transitions":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing or holds something else.
        """
        try:
            return cls.from_dict(read_json(Path(path)))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path} holds no transitions ({brief(repr(error))}): write them with rlct "
                "transitions RUN"
            ) from error


def _steps(steps: Collection[int]) -> str:
    return f"step{'s' * (len(steps) > 1)} {', '.join(map(str, steps))}"
