"""``rlct doctor``: what this machine has, and whether estimates are right on it."""

import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import llc
from llc import plot, truths
from llc.cli.output import show
from llc.errors import InputError
from llc.execution import GIB, free_memory
from llc.surface import LossSurface

if TYPE_CHECKING:
    from llc.cli.options import Doctor as Options

__all__ = ["run"]

NEEDED = ("torch", "numpy", "scipy", "matplotlib", "devinterp", "arviz-stats", "safetensors")
OPTIONAL = ("h5netcdf", "h5py", "transformers", "datasets", "submitit")
# An error bar of a short run is itself uncertain; five of them are passed once in 10⁵ runs.
MOST_ERRORS = 5.0


@dataclass(frozen=True)
class Check:
    """One part of the self-check: its name, whether it passed, what was found."""

    name: str
    passed: bool
    found: str


def run(options: "Options") -> int:
    """Print versions, devices, threads and the self-check; 1 if that did not pass."""
    about = _about()
    if not options.json:
        for name, value in about.items():
            print(f"{name:<10}{value}")
        print("\nself-check")
    started, checks = time.perf_counter(), []
    for check in (_known, _singular, _frozen, _repeated, _side_by_side, _drawn):
        checks.append(_safely(check))
        if not options.json:
            name, passed, found = asdict(checks[-1]).values()
            print(f"  {'ok  ' if passed else 'FAIL'}  {name:<34}{found}", flush=True)
    seconds = time.perf_counter() - started
    passed = all(check.passed for check in checks)
    if options.json:
        found = {"about": about, "checks": [asdict(c) for c in checks], "passed": passed}
        show({**found, "seconds": round(seconds, 1)})
    else:
        words = "all is well" if passed else "estimates of this machine are not to be relied on"
        print(f"{words} ({seconds:.0f} s)")
    return 0 if passed else 1


def _about() -> dict[str, str]:
    """Versions, devices, threads."""
    cards = [
        f"cuda:{i} {torch.cuda.get_device_name(i)}, "
        f"{torch.cuda.get_device_properties(i).total_memory / GIB:.0f} GiB"
        for i in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        cards.append("mps")
    free = free_memory(torch.device("cpu")) / GIB
    return {
        "llc": f"{llc.__version__}, Python {platform.python_version()}",
        "system": f"{platform.platform()}",
        "needed": ", ".join(f"{name} {_version(name)}" for name in NEEDED),
        "optional": ", ".join(f"{name} {_version(name)}" for name in OPTIONAL),
        "devices": ", ".join(["cpu", *cards]) + ("" if cards else " (no GPU)"),
        "threads": f"{torch.get_num_threads()} of torch on {os.cpu_count()} cores, "
        f"{torch.backends.cpu.get_cpu_capability()}",
        "memory": f"{free:.1f} GiB free",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _safely(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except InputError:
        raise
    except Exception as error:
        return Check(check.__name__.strip("_"), False, f"{type(error).__name__}: {error}")


def _held(name: str, truth: Any, n_beta: float, gamma: float) -> Check:
    """Hold an estimate at default settings against the exact expectation."""
    started = time.perf_counter()
    found = llc.estimate(truth.task(), n_beta=n_beta, gamma=gamma)
    exact = truth.expected(n_beta, gamma)
    off = abs(found.llc - exact) / found.mcse
    rate = found.gradient_evaluations / (time.perf_counter() - started)
    return Check(
        name,
        bool(off <= MOST_ERRORS),
        f"LLC {found.llc:.3f} ± {found.mcse:.3f}, exact {exact:.3f}; {rate:,.0f} gradients/s",
    )


def _known() -> Check:
    truth = truths.quadratic([4.0, 2.0, 1.0, 1.0, 0.5, 0.25])
    return _held("regular: a quadratic", truth, 1000.0, 1.0)


def _singular() -> Check:
    truth = truths.reduced_rank(4, 2, 3, 0)
    return _held("singular: a linear net of rank 0", truth, 1000.0, 1.0)


def _frozen() -> Check:
    truth = truths.quadratic([1.0, 1.0])
    settings = {"n_beta": 100.0, "gamma": 1.0, "draws": 20, "burn_in": 20, "chains": 2}
    found = llc.estimate(truth.task(), step_size=1e-12, **settings)
    small = abs(found.llc) < 1e-6 and found.verdict.status == "fail"
    return Check("a sampler that does not move", small, f"LLC {found.llc:.1e}, verdict fail")


def _repeated() -> Check:
    settings = {"n_beta": 100.0, "gamma": 1.0, "draws": 50, "burn_in": 50, "chains": 2, "seed": 7}
    task = truths.quadratic([1.0, 0.1]).task()
    one, two = (llc.estimate(task, **settings) for _ in range(2))
    same = one.trace.tobytes() == two.trace.tobytes()
    return Check("the same seed, twice", same, "draws equal to the last bit" if same else "differ")


def _side_by_side() -> Check:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 3, generator=generator)
    task = llc.Task(torch.nn.Linear(3, 2), (inputs, torch.zeros(64, 2)), "mse")
    surface = LossSurface(task)
    found = surface.why_not_vectorised or "equal to one by one"
    return Check("chains side by side", surface.vectorised, found)


def _drawn() -> Check:
    settings = {"n_beta": 100.0, "gamma": 1.0, "draws": 30, "burn_in": 30, "chains": 2}
    found = llc.estimate(truths.quadratic([1.0]).task(), **settings)
    with tempfile.TemporaryDirectory() as folder:
        found.save(Path(folder) / "estimate.json")
        plot.save(plot.chains(found), Path(folder) / "chains")
        written = sorted(path.name for path in Path(folder).iterdir())
    return Check("files and figures", len(written) >= 2, ", ".join(written))
