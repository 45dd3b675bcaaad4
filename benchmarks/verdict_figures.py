"""Draw what each failure looks like: traces of bad estimates beside the number that was wanted.

Command: python benchmarks/verdict_figures.py docs/images
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

import llc
from llc import truths
from llc.estimation import Reason
from llc.plot.figures import STYLE

N_BETA = 1e3


@dataclass(frozen=True)
class Failure:
    """A bad estimate.

    Attributes:
        reason: what the verdict should say.
        words: the panel's title.
        make: the estimate and B, nan where it is not known.
    """

    reason: Reason
    words: str
    make: Callable[[], tuple[llc.Estimate, float]]


class Point(torch.nn.Module):
    def __init__(self, w: torch.Tensor) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(w)


def not_arrived() -> tuple[llc.Estimate, float]:
    truth = truths.quadratic(np.logspace(0, -4, 40).tolist())
    settings = {"n_beta": 1e4, "gamma": 0.1, "step_size": 0.003}
    e = llc.estimate(truth.task(), burn_in=20, draws=300, **settings)
    return e, truth.expected(1e4, 0.1) or np.nan


def two_basins() -> tuple[llc.Estimate, float]:
    def loss(model: torch.nn.Module) -> torch.Tensor:
        # The far basin is wider in the other directions, and holds more loss in return.
        w = model.w
        far = torch.sigmoid(-20 * (w[0] + 0.5))
        well = w[0] ** 2 * (1 + w[0]) ** 2 / 2
        return well + (1 - 0.9 * far) * (w[1:] ** 2).sum() / 2 + 0.06 * far

    task = llc.Task(Point(torch.zeros(9, dtype=torch.float64)), potential=loss)
    e = llc.estimate(task, n_beta=90.0, gamma=0.2, step_size=0.07, burn_in=20, draws=1200)
    return e, np.nan


def large_step() -> tuple[llc.Estimate, float]:
    truth = truths.quadratic([1.0] * 20)
    step = 2.5 / (N_BETA + 10)
    e = llc.estimate(truth.task(), n_beta=N_BETA, gamma=10.0, sampler="sgld", step_size=step,
                     burn_in=50, draws=300)  # fmt: skip
    return e, truth.expected(N_BETA, 10.0) or np.nan


def heated() -> tuple[llc.Estimate, float]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 20, generator=generator, dtype=torch.float64)
    y = x.sum(1) + torch.randn(2000, generator=generator, dtype=torch.float64)
    task = llc.Task(
        Point(torch.linalg.lstsq(x, y[:, None]).solution[:, 0]),
        (x, y),
        batch_loss=lambda m, b: (b[0] @ m.w - b[1]) ** 2,
    )
    n_beta = 2000 / np.log(2000)
    h = torch.linalg.eigvalsh(2 * x.T @ x / 2000).tolist()
    e = llc.estimate(task, gamma=1.0, batch_size=250, step_size=0.008, burn_in=300, draws=300)
    return e, truths.quadratic(h).expected(n_beta, 1.0) or np.nan


def off_minimum() -> tuple[llc.Estimate, float]:
    h = torch.ones(20, dtype=torch.float64)
    task = llc.Task(
        Point(torch.zeros(20, dtype=torch.float64)),
        potential=lambda m: (h * (m.w - 0.05) ** 2).sum() / 2,
    )
    return (
        llc.estimate(task, n_beta=N_BETA, gamma=10.0, draws=300),
        truths.quadratic([1.0] * 20).expected(N_BETA, 10.0) or np.nan,
    )


def prior_dominated() -> tuple[llc.Estimate, float]:
    truth = truths.quadratic([1.0] * 20)
    e = llc.estimate(truth.task(), n_beta=N_BETA, gamma=3e3, draws=300)
    return e, float(truth.llc or np.nan)


def left_the_model() -> tuple[llc.Estimate, float]:
    torch.manual_seed(0)
    x = torch.randn(300, 8)
    labels = (x @ torch.randn(8, 5)).argmax(1)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 5))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(300):
        optimiser.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimiser.step()
    return llc.estimate(model, (x, labels), "cross_entropy", n_beta=2.0, gamma=0.3, draws=300,
                        burn_in=200, behavioural=True), np.nan  # fmt: skip


def diverged() -> tuple[llc.Estimate, float]:
    truth = truths.powers([4] * 6)
    e = llc.estimate(truth.task(), n_beta=N_BETA, gamma=1.0, sampler="sgld", step_size=0.0064,
                     burn_in=0, draws=300, chains=6)  # fmt: skip
    return e, truth.expected(N_BETA, 1.0) or np.nan


FAILURES = (
    Failure(Reason.NOT_IN_EQUILIBRIUM, "not in equilibrium", not_arrived),
    Failure(Reason.CHAINS_DISAGREE, "chains disagree", two_basins),
    Failure(Reason.STEP_TOO_LARGE, "step too large", large_step),
    Failure(Reason.HEATED, "heated by minibatches", heated),
    Failure(Reason.NEGATIVE, "not at a minimum", off_minimum),
    Failure(Reason.PRIOR_DOMINATED, "prior-dominated", prior_dominated),
    Failure(Reason.ABOVE_CHANCE, "left the model", left_the_model),
    Failure(Reason.SOME_DIVERGED, "diverged", diverged),
)


def draw(folder: Path) -> None:
    with matplotlib.rc_context({**STYLE, "savefig.dpi": 110.0}):
        figure = Figure(figsize=(7.2, 3.8), layout="constrained")
        for ax, failure in zip(figure.subplots(2, 4).ravel(), FAILURES, strict=True):
            e, wanted = failure.make()
            said = ", ".join(reason.name for reason in e.verdict.reasons)
            print(f"{failure.words:<24}{e}\n    {said}", flush=True)
            if failure.reason not in e.verdict.reasons:
                raise SystemExit(f"{failure.words}: the verdict does not say {failure.reason.name}")
            seen = e.trace[np.isfinite(e.trace)]
            marks = [
                0.0,
                *np.percentile(seen, [0.5, 99]),
                *([wanted] if np.isfinite(wanted) else []),
            ]
            low, high = min(marks), max(marks)
            for chain in e.trace:
                ax.plot(
                    np.clip(chain, 2 * low - high, high + 0.15 * (high - low)), lw=0.5, alpha=0.7
                )
            # Room above for what the panel says.
            ax.set_ylim(low - 0.05 * (high - low), high + 0.45 * (high - low))
            if np.isfinite(wanted):
                label = "λ" if failure.reason is Reason.PRIOR_DOMINATED else "exact"
                ax.axhline(wanted, color="black", lw=0.9, ls="--", label=f"{label} {wanted:.3g}")
            mean = "none" if np.isnan(e.llc) else f"{e.llc:.3g}"
            ax.plot([], [], " ", label=f"LLC {mean}, virial {e.virial:.2f}")
            ax.legend(loc="upper right", fontsize=6, handlelength=1.2)
            ax.set_title(f"{failure.words}: {e.verdict}")
            ax.tick_params(labelsize=6)
        figure.supxlabel("draw", fontsize=8)
        figure.supylabel("nβ(L − L*) of each chain", fontsize=8)
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / "verdicts.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    torch.set_num_threads(1)
    draw(parser.parse_args().folder)


if __name__ == "__main__":
    main()
