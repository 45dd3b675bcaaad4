"""Whether to believe a number: a status, and the sentences a user reads."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from llc.derivative import SENTENCE
from llc.estimation.estimators import PLATEAU, falls_with_n_beta, steepness

__all__ = ["Reason", "Status", "Verdict", "judge"]

# A share p that says nothing leaves (1 − p)nβ for the rest. On a quadratic d ln B/d ln nβ is
# Σs(1−s)/Σs ≤ 1, so that B falls by no more than p: below a tenth the verdict need not care.
MOST_ALIKE = 0.1
LEAST_VIRIAL, MOST_VIRIAL = 0.95, 1.05
MOST_ROUNDING = 0.05
# Nearer to 1 what is missing is noise.
MOST_SATURATION = 0.97

NAN_ADVICE = "keep the arguments of logarithms, roots and divisions in the loss away from 0"

Status = Literal["ok", "warn", "fail"]


class Reason(enum.Enum):
    """Why an estimate is not simply ok: what was seen, the likely cause, what to change."""

    ALL_DIVERGED = (
        "all {chains} chains {left} (step size {step_size:.3g}): {all_because}; {left_advice}, or "
        "raise gamma"
    )
    SOME_DIVERGED = (
        "{diverged_count} of {chains} chains {left} and were excluded (chain {diverged}): "
        "{some_because}; {left_advice}, or raise gamma"
    )
    NOT_IN_EQUILIBRIUM = (
        "the virial is {virial:.3f} and should be 1 (chains: {chain_virials}): {off_because}{where}"
        ", and the LLC may be off by {virial_off:.0%} or more; {off_advice}"
    )
    CHAINS_DISAGREE = (
        "R-hat is {rhat:.3f}: the chains disagree about the loss, as in separate basins or slow "
        "modes; give more draws or burn-in, or raise gamma"
    )
    FEW_EFFECTIVE_DRAWS = (
        "only {ess:.0f} effective draws stand behind the number: its error bar is itself "
        "uncertain; give more draws"
    )
    PRECISION_NOT_REACHED = (
        "the {ended} ended at a 95 % interval of ±{half_width:.1%} (asked for ±{precision:.1%}): "
        "give more {ended}, or a larger precision"
    )
    CUT_SHORT = (
        "the {ended} ended at {draws:,} draws a chain after {burn_in:,} steps of burn-in: the 95 % "
        "interval of ±{half_width:.1%} is narrow enough, but slow modes had little time to show "
        "themselves; give more {ended}"
    )
    NEGATIVE = (
        "the LLC is negative: the chains found lower loss than at w*, so w* is no minimum of the "
        "sampled loss (weight decay, early stopping or unfinished training); train on, or use "
        "behavioural=True"
    )
    NOT_A_MINIMUM = (
        "w* is not a minimum at this temperature ({evidence}): the LLC is too low by an unknown "
        "amount; {centre_advice}"
    )
    PRIOR_DOMINATED = (
        "the LLC is {saturation:.0%} of what the prior alone gives ({null:.4g}): the number is "
        "mostly flatness at radius 1/√gamma, not a count of dimensions; lower gamma to about "
        "{less_gamma:.2g} or less, or raise n_beta to about {more_n_beta:.2g} or more"
    )
    ABOVE_CHANCE = (
        "the sampled loss {sampled_loss:.3g} is above that of a blind guess ({chance:.3g}): the "
        "chains have left the model; raise gamma or n_beta"
    )
    STEP_TOO_LARGE = (
        "step size times curvature is {stiffness:.2f} at the chains' last positions (aimed at "
        "{stiffness_aim:.2g}): the step may bias the number upwards; {step_advice}"
    )
    STEP_BIASES = (
        "half the step gives {half:.4g} instead of {llc:.4g}: the step adds about {bias:.2g} ± "
        "{bias_se:.2g} to the LLC, more than its interval; give a step_size of {less:.2g}"
    )
    HEATED = (
        "minibatch noise raises the LLC by about {heat:.0%}: use a larger batch_size, or the "
        "behavioural loss"
    )
    HEAT_UNKNOWN = (
        "minibatch noise would raise the LLC by about {heat_bound:.0%} if the thermostat took none "
        "of it up, and how much it takes is not known: use a larger batch_size, or "
        "sampler='kinetic', whose heat is"
    )
    ROUNDED = (
        "rounding to {rounded_to} changes the LLC by about {rounding:.2g}, {rounding_share:.0%} of "
        "it: {rounding_advice}"
    )
    PADDED = (
        "{alike:.0%} of the {alike_what}: if that is padding it dilutes n_beta on the rest and "
        "counts in the LLC; leave it out, or mask it in the loss and average over what is left"
    )
    GRADIENT_MISMATCH = SENTENCE
    BELOW_NOISE = (
        "the LLC {llc:.3g} is within two standard errors ({mcse:.2g}) of zero: nothing was "
        "measured; give more draws or a larger n_beta"
    )


@dataclass(frozen=True)
class Verdict:
    """Status, reasons for it, and what they say of this estimate.

    Attributes:
        status: ``"ok"``, ``"warn"`` (usable with the stated care) or ``"fail"``.
        reasons: members of `Reason`, gravest first.
        sentences: the same as text, numbers filled in.
        readings: what the controls say, whatever the status: prior-only null and saturation,
            sampled loss against chance, distance travelled, sensitivity to γ and nβ.
    """

    status: Status
    reasons: tuple[Reason, ...]
    sentences: tuple[str, ...]
    readings: tuple[str, ...]

    def with_reason(self, reason: Reason, grade: Status, sentence: str) -> "Verdict":
        """Return the verdict with one more reason, in the place that its grade gives it."""
        first = grade == "fail"
        place = 0 if first else len(self.reasons)
        return replace(
            self,
            status="fail" if "fail" in (grade, self.status) else "warn",
            reasons=(*self.reasons[:place], reason, *self.reasons[place:]),
            sentences=(*self.sentences[:place], sentence, *self.sentences[place:]),
        )

    def with_reading(self, reading: str) -> "Verdict":
        """Return the verdict with one more reading."""
        return replace(self, readings=(*self.readings, reading))

    def __str__(self) -> str:
        return self.status


def judge(facts: Mapping[str, Any]) -> Verdict:
    """Weigh the facts of an estimate (its fields by name) into a verdict."""
    facts = {**facts, **_how_they_left(facts)}
    if facts["diverged_count"] == facts["chains"]:
        sentence = Reason.ALL_DIVERGED.value.format(**facts)
        return Verdict("fail", (Reason.ALL_DIVERGED,), (sentence,), ())
    facts = {**facts, **_rounding(facts)}
    facts = {
        **facts,
        **_equilibrium(facts),
        **_way_out_of_the_prior(facts),
        "evidence": _evidence(facts),
        "centre_advice": _centre_advice(facts.get("behavioural", False)),
    }
    found = sorted(_found(facts), key=lambda pair: pair[1] != "fail")
    grades = [grade for _, grade in found]
    status: Status = "fail" if "fail" in grades else "warn" if grades else "ok"
    reasons = tuple(reason for reason, _ in found)
    return Verdict(
        status, reasons, tuple(r.value.format(**facts) for r in reasons), tuple(_readings(facts))
    )


def _found(f: Mapping[str, Any]) -> list[tuple[Reason, Status]]:
    found: list[tuple[Reason, Status]] = []

    def add(reason: Reason, warn: bool, fail: bool = False) -> None:
        # Comparisons with nan are False: what could not be measured raises no alarm by itself.
        if fail or warn:
            found.append((reason, "fail" if fail else "warn"))

    llc, error = f["llc"], f["mcse"]
    add(Reason.SOME_DIVERGED, f["diverged_count"] > 0)
    add(Reason.NOT_IN_EQUILIBRIUM, f["virial_off"] > 0.05, f["virial_off"] > 0.1)
    add(Reason.CHAINS_DISAGREE, f["rhat"] > 1.05, f["rhat"] > 1.2)
    add(Reason.FEW_EFFECTIVE_DRAWS, f["ess"] < 100, not f["ess"] >= 10)
    wide = not f["half_width"] <= f["precision"]
    add(Reason.PRECISION_NOT_REACHED, f["reached"] is False and wide)
    add(Reason.CUT_SHORT, f["reached"] is False and not wide)
    negative = llc + 2 * error < 0 and not f["rounding_share"] > 0.2
    add(Reason.NEGATIVE, False, negative)
    add(Reason.NOT_A_MINIMUM, bool(f["evidence"]) and not negative)
    add(Reason.PRIOR_DOMINATED, f["saturation"] > 0.5)
    add(Reason.ABOVE_CHANCE, False, _above_chance(f))
    add(
        Reason.STEP_TOO_LARGE,
        f["stiffness"] > 2 * f["stiffness_aim"],
        f["stiffness"] > 3 * f["stiffness_aim"],
    )
    add(Reason.HEATED, f["heat"] > 0.05, f["heat"] > 0.2)
    add(Reason.HEAT_UNKNOWN, f["heat"] != f["heat"] and f["heat_bound"] > 0.05)
    add(Reason.ROUNDED, f["rounding_share"] > MOST_ROUNDING, f["rounding_share"] > 0.2)
    add(Reason.PADDED, f["alike"] > MOST_ALIKE)
    add(Reason.BELOW_NOISE, abs(llc) <= 2 * error)
    return found


def _how_they_left(f: Mapping[str, Any]) -> dict[str, str]:
    """To infinity, by too large a step; or to places where loss or gradient is nan."""
    met_nan = f.get("met_nan", 0)
    if not met_nan:
        return {
            "left": "left for infinity",
            "all_because": "the step is too large or the loss is unbounded below near w*",
            "some_because": "the step is at the edge of stability",
            "left_advice": f["step_advice"],
        }
    others = met_nan < f["diverged_count"]
    because = "the loss over all data is finite at w*, but not a number at some weights near it"
    because += " or in some batches" * f.get("in_batches", False)
    return {
        "left": "met a loss or gradient that is NaN" + ", or left for infinity," * others,
        "all_because": because,
        "some_because": because,
        "left_advice": NAN_ADVICE,
    }


def _rounding(f: Mapping[str, Any]) -> dict[str, Any]:
    off, llc = abs(f.get("rounding", 0.0)), abs(f["llc"])
    words = "float32", "give the model and its data in float64, as model.double()"
    if f.get("half", False):
        words = (
            "half precision inside the model",
            "evaluate in float32, without autocast and without casts to bfloat16 or float16 in the "
            "model's forward pass",
        )
    share = off / max(llc, 1e-300) if off > f["mcse"] else 0.0
    return {"rounding_share": share, "rounded_to": words[0], "rounding_advice": words[1]}


def _equilibrium(f: Mapping[str, Any]) -> dict[str, Any]:
    """What a virial off 1 means: chains on their way from w* are below it, hot ones above."""
    because = "the chains have not arrived in all directions"
    advice = "give more budget or burn-in, or raise gamma"
    if f["virial"] > 1:
        because = "the chains are hotter than what they should sample, by too large a step or by "
        because += "minibatch noise, or are still settling"
        advice = f"{f['step_advice']}, take a larger batch_size, or give more draws"
        if f["rounding_share"] > MOST_ROUNDING:
            because = "the chains are hotter than what they should sample, by rounding"
            advice = f["rounding_advice"]
    if restarts := f.get("nan_restarts", 0):
        because = "the chains met a loss or gradient that is NaN near w*, and were started again "
        because += f"{restarts} times with smaller steps"
        advice = f"{NAN_ADVICE}, or raise gamma"
    return {"virial_off": abs(f["virial"] - 1), "off_because": because, "off_advice": advice}


def _way_out_of_the_prior(f: Mapping[str, Any]) -> dict[str, float]:
    """γ and nβ at which the saturation would be ½, if the loss were a quadratic.

    On equal curvatures the saturation is 1/(1 + x), x = nβh/γ, and k = saturation/(1 − saturation)
    times the x makes it ½. Curvatures that differ need more: y/(k − (k − 1)y), what becomes of a
    share y, is convex.
    """
    share = min(max(f["saturation"], 0.5), MOST_SATURATION)
    factor = share / (1 - share)
    return {"less_gamma": f["gamma"] / factor, "more_n_beta": f["n_beta"] * factor}


def _above_chance(f: Mapping[str, Any]) -> bool:
    """A checkpoint that is itself near chance is not accused of having left the model.

    Whether a rise is small is told by what there is to be learnt: a model whose outputs do not
    depend on the inputs yet has a chance of zero under its behavioural loss. Where targets are all
    one constant there is nothing, and any rise is above that of a guess.
    """
    chance = f["chance"]
    if chance is None:
        return False
    learnable = chance if f["task_chance"] is None else max(chance, f["task_chance"])
    rise = f["sampled_loss"] - f["baseline"]
    return learnable > 0 and f["sampled_loss"] > chance and rise > 0.1 * learnable


def _evidence(f: Mapping[str, Any]) -> str:
    """Signs that w* is no minimum: a falling λ̂(nβ), a gradient, draws below the baseline.

    A fall is no sign in chains that are too hot or that left: these spread too far by themselves.
    Nothing is where half precision rounds the loss: it bends the loss and its gradient alike.
    Nor is any in chains that have not arrived, where the targets are the checkpoint's own outputs.
    """
    signs: list[str] = []
    if f.get("behavioural", False) and f["virial"] < LEAST_VIRIAL:
        return ""
    if f["rounding_share"] > MOST_ROUNDING:
        return ""
    sane = not f["virial"] > MOST_VIRIAL and not f["diverged_count"]
    if sane and falls_with_n_beta(f["llc"], f["slope_n_beta"], f["slope_n_beta_se"], f["heat"]):
        signs.append(f"dLLC/d ln n_beta is {f['slope_n_beta']:.3g} ± {f['slope_n_beta_se']:.2g}")
    if f["gradient_shift"] > 0.05 * abs(f["llc"]):
        signs.append(f"its gradient alone shifts the LLC by about -{f['gradient_shift']:.3g}")
    if f["below_baseline"] > 0.01:
        signs.append(f"{f['below_baseline']:.0%} of the draws have lower loss than w*")
    return "; ".join(signs)


def _centre_advice(behavioural: bool) -> str:
    """With its own outputs as targets w* is a minimum: chains on their way look alike."""
    if behavioural:
        return "the targets are its own outputs already: give more budget, or raise gamma"
    return "use behavioural=True, train on, or raise gamma"


def _readings(f: Mapping[str, Any]) -> list[str]:
    shape = "a trace-like flatness" if f["saturation"] > 0.5 else "shaped by the loss"
    lines = [
        f"prior-only null {f['null']:.4g} ± {f['null_se']:.2g}: the LLC is {f['saturation']:.0%} "
        f"of it, {shape}"
    ]
    sampled, baseline = f["sampled_loss"], f["baseline"]
    loss = f"sampled loss {sampled:.3g} against {baseline:.3g} at w*"
    if f["chance"] is not None:
        loss += f" and {f['chance']:.3g} for a blind guess"
    lines.append(loss)
    lines.append(f"distance travelled {f['distance']:.2f} of the prior's radius √(D/gamma)")
    if f["llc"] < 0:
        lines.append("negative LLC: lower loss was found near w* than at w*")
    meaning = _meaning(f["llc"], f["slope_gamma"], f["slope_gamma_se"])
    slope = f"dLLC/d ln gamma {f['slope_gamma']:.3g} ± {f['slope_gamma_se']:.2g}"
    if f["slope_n_beta"] == f["slope_n_beta"]:
        slope += f", dLLC/d ln n_beta {f['slope_n_beta']:.3g} ± {f['slope_n_beta_se']:.2g}"
    lines.append(f"{slope}: {meaning}")
    return lines


def _meaning(llc: float, slope: float, error: float) -> str:
    """What dλ̂/d ln γ says of the number."""
    if max(abs(slope), error) <= PLATEAU * abs(llc):
        return "a plateau in gamma"
    if share := steepness(llc, slope, error):
        return (
            f"it changes by {share:.0%} when gamma does by a factor of e: a tempered effective "
            "dimension, to be compared only at this n_beta and gamma"
        )
    return "this run does not resolve whether gamma matters"
