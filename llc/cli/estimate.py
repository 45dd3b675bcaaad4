"""``rlct estimate``: one checkpoint, one table or one JSON object."""

import math
from typing import TYPE_CHECKING

from llc.audit import audit_step, check_sampler
from llc.checkpoints import load_weights
from llc.cli.choices import execution_of, settings_of
from llc.cli.output import show
from llc.cli.tasks import arguments_of, load_task
from llc.estimation.estimate import rounded
from llc.estimation.estimators import MOST_STEEP, steepness
from llc.estimator import estimate_task
from llc.parts import shown

if TYPE_CHECKING:
    from llc.cli.options import Estimate as Options
    from llc.estimation import Estimate

__all__ = ["run", "table"]


def run(options: "Options") -> int:
    """Load, estimate, audit, print; 1 if the verdict failed and ``--strict`` was given."""
    settings = settings_of(options)
    execution = execution_of(options)
    if options.audit:
        check_sampler(settings.sampler)
    arguments = arguments_of(options)
    weights = load_weights(options.checkpoint, options.entry, options.drop)
    task = load_task(options.task, arguments).at(weights)
    result = estimate_task(task, settings, execution=execution, progress=True)
    audit = None
    if options.audit and not math.isnan(result.llc):
        audit = audit_step(task, estimate=result, execution=execution, progress=True)
        result = audit.estimate
    if options.json:
        record = {"checkpoint": options.checkpoint.name, **result.to_dict()}
        if audit is not None:
            record["audit"] = audit.to_dict()
        show(record)
    else:
        print(table(result, options.checkpoint.name))
    return 1 if options.strict and result.verdict.status == "fail" else 0


def table(result: "Estimate", name: str) -> str:
    """Lay an estimate out for reading."""
    s = result.settings
    number, error = rounded(result.llc, result.mcse)
    measured = "not measured" if math.isnan(result.llc) else f"{number} ± {error}"
    low, high = result.interval(0.9)
    rows = [
        ("checkpoint", f"{name} ({result.dimension:,} parameters)"),
        ("LLC", f"{measured}   90 % interval {low:.4g} … {high:.4g}"),
        ("errors", _errors(result)),
        ("readings", _readings(result)),
        ("virial", f"{result.virial:.3f} (1 in equilibrium; chains {_list(result.chain_virials)})"),
        ("R-hat", f"{result.rhat:.3f}"),
        ("ESS", f"{result.ess:.0f} of {s.chains * (s.draws or 0)} draws"),
        ("saturation", f"{result.saturation:.3f} of the prior-only null {result.null:.4g}"),
        ("n_beta", f"{s.n_beta:.6g}{_why(s.reasons, 'n_beta')}"),
        ("gamma", f"{s.gamma:.4g}{_why(s.reasons, 'gamma')}"),
        ("sampler", f"{s.sampler}, step size {s.step_size:.3g}{_extra(result)}"),
        ("chains", f"{s.chains} × ({s.burn_in} burn-in + {s.draws} draws), seed {s.seed}"),
        ("batch", f"{s.batch_size or 'all data'}{', behavioural loss' if s.behavioural else ''}"),
        *([] if s.only is None else [("only", shown(s.only))]),
        ("run", result.execution),
        ("cost", f"{result.gradient_evaluations:,} gradients, {result.seconds:.1f} s"),
        ("verdict", f"{result.verdict.status}{_at_this_gamma(result)}"),
    ]
    lines = [f"{label:<11} {text}" for label, text in rows]
    lines += [f"  ! {sentence}" for sentence in result.verdict.sentences]
    lines += [f"  · {reading}" for reading in result.verdict.readings]
    return "\n".join(lines)


def _at_this_gamma(result: "Estimate") -> str:
    """A number that is right may still be one of many: which it is, γ decides."""
    share = steepness(result.llc, result.slope_gamma, result.slope_gamma_se)
    if result.verdict.status != "ok" or share < MOST_STEEP:
        return ""
    return f", at this gamma: the LLC changes by {share:.0%} an e-fold of it"


def _why(reasons: object, name: str) -> str:
    text = dict(reasons).get(name)  # type: ignore[call-overload]
    return f"  ({text})" if text else ""


def _extra(result: "Estimate") -> str:
    text = "" if result.friction is None else f", friction {result.friction:.3g}"
    if not math.isnan(result.acceptance):
        text += f", acceptance {result.acceptance:.2f}"
    return text + (", control variates" if result.settings.control_variate else "")


def _errors(result: "Estimate") -> str:
    """Terms of the error budget that are not zero."""
    b = result.errors
    names = {
        "Monte Carlo": b.monte_carlo,
        "step": b.discretisation,
        "minibatch heat": b.heat,
        "not in equilibrium": b.equilibration,
        "rounding": b.rounding,
    }
    own = ", ".join(f"{name} {value:.2g}" for name, value in names.items() if abs(value) > 0)
    price = f"; settings take off {-b.price:.2g}" if b.price < 0 else ""
    return f"{own or 'not measured'}; together {b.total:.2g}{price}"


def _readings(result: "Estimate") -> str:
    """λ by other routes from the same draws."""
    text = f"by variance {result.variance_llc:.4g} ± {result.variance_llc_se:.2g}"
    if not math.isnan(result.two_temperature_llc):
        two, error = result.two_temperature_llc, result.two_temperature_llc_se
        text += f", by two temperatures {two:.4g} ± {error:.2g}"
    return text if math.isfinite(result.variance_llc) else "not measured"


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{v:.2f}" for v in values)
