"""Numbers that compare results of several parts; the page takes them from here."""

from pathlib import Path
from typing import Any

import numpy as np

from parts import common

SHIFTS = 20_000


def compute(work: Path, workers: int) -> dict[str, Any]:
    """Read the other parts' results."""
    return {
        "falls": {name: _fall(name, run) for name, run in common.kept("trace").items()},
        "settings": {
            name: {key: _fall(name, run) for key, run in by_key.items()}
            for name, by_key in common.kept("settings").items()
        },
        "matched": {
            name: {key: _fall(name, run) for key, run in by_key.items()}
            for name, by_key in common.kept("matched").items()
        },
        "plateau": {name: _plateau(name) for name in common.understood()},
        "null": _against_null(),
        "norm": _against_norm(),
        "births": _births(),
    }


def _fall(name: str, run: dict[str, Any]) -> dict[str, float]:
    """From the highest LLC to the last one, over all steps and since memorising."""
    llc, error = np.array(run["llc"], float), np.array(run["mcse"], float)
    null, late = np.array(run["null"], float), _late(run, name)
    top, last = int(np.nanargmax(llc)), len(llc) - 1
    relative = np.hypot(error[top] / llc[top], error[last] / llc[last])
    return {
        "step": run["step"][top],
        "high": llc[top],
        "high_se": error[top],
        "last": llc[last],
        "last_se": error[last],
        "factor": llc[top] / llc[last],
        "factor_se": llc[top] / llc[last] * relative,
        "null_factor": np.nanmax(null) / null[last],
        "late_factor": llc[late].max() / llc[last],
        "late_null_factor": null[late].max() / null[last],
    }


def _plateau(name: str) -> dict[str, float]:
    """The LLC at equal norm, and as trained, in the first half of the way to half accuracy."""
    low, _ = common.window(name)
    curves = common.kept("train")[name]["curves"]
    half = common.first_step(curves, "test_accuracy", 0.5) or common.STEPS
    until = low + (half - low) / 2
    equal, own = common.kept("matched")[name]["norm"], common.kept("trace")[name]
    pick = lambda run: np.array(run["llc"], float)[
        (np.array(run["step"]) >= low) & (np.array(run["step"]) <= until)
    ]
    flat, falling = np.log(pick(equal)), pick(own)
    return {
        "until": until,
        "spread": flat.std(),
        "as_trained": falling[0] / falling[-1],
        "points": len(flat),
    }


def _late(run: dict[str, Any], name: str) -> np.ndarray:
    return np.array(run["step"]) >= common.window(name)[0]


def _against_null() -> dict[str, Any]:
    """Correlation of ln LLC with ln null after memorising, by run and over all runs together."""
    found: dict[str, Any] = {}
    everything: list[tuple[np.ndarray, np.ndarray]] = []
    for name, run in common.kept("trace").items():
        late = _late(run, name)
        pair = np.log(np.array(run["llc"]))[late], np.log(np.array(run["null"]))[late]
        everything.append(pair)
        found[name] = float(np.corrcoef(*pair)[0, 1])
    joined = [np.concatenate(parts) for parts in zip(*everything, strict=True)]
    slope, intercept = np.polyfit(joined[1], joined[0], 1)
    left = joined[0] - slope * joined[1] - intercept
    together = float(np.corrcoef(*joined)[0, 1])
    return {"by_run": found, "together": together, "slope": slope, "residual": left.std()}


def _against_norm() -> dict[str, Any]:
    """Smooth descent of the norm as the rival: is the LLC a function of the norm alone?

    A quadratic in ln norm is fitted to ln LLC of the runs that never understood; the others are
    held against it where their norms overlap.
    """
    trained, runs = common.kept("train"), common.kept("trace")
    never = [name for name in runs if trained[name]["grokked"] is None]
    log = {
        name: (np.log(np.array(run["weight_norm"]))[_late(run, name)],
               np.log(np.array(run["llc"]))[_late(run, name)])
        for name, run in runs.items()
    }  # fmt: skip
    x, y = (np.concatenate([log[name][i] for name in never]) for i in (0, 1))
    fit = np.polyfit(x, y, 2)
    found: dict[str, Any] = {"range": [np.exp(x.min()), np.exp(x.max())], "residual": {}}
    found["own"] = float(np.std(y - np.polyval(fit, x)))
    for name in runs:
        at, values = log[name]
        overlap = (at >= x.min()) & (at <= x.max())
        left = values[overlap] - np.polyval(fit, at[overlap])
        found["residual"][name] = [float(left.mean()), float(np.abs(left).max())]
    found["correlation"] = {name: float(np.corrcoef(*pair)[0, 1]) for name, pair in log.items()}
    return found


def _births() -> dict[str, Any]:
    """Does the LLC fall faster where a frequency is born?

    The mean rate −d ln λ/d step at the births after memorising, over all runs, against the same
    births moved along their window by a random amount, round its end to its start.
    """
    circuits, runs = common.kept("circuits"), common.kept("trace")
    rng = np.random.default_rng(0)
    seen, shifted, count = 0.0, np.zeros(SHIFTS), 0
    for name, found in circuits.items():
        low, high = common.window(name)
        step, llc = np.array(runs[name]["step"]), np.log(np.array(runs[name]["llc"]))
        middle, rate = (step[1:] + step[:-1]) / 2, -np.diff(llc) / np.diff(step)
        born = np.array([b["step"] for b in found["births"] if low < b["step"] < high])
        if not len(born):
            continue
        rates = lambda at, x=middle, y=rate: np.interp(at, x, y)
        seen += rates(born).sum()
        moved = low + (born - low + rng.uniform(0, high - low, (SHIFTS, 1))) % (high - low)
        shifted += rates(moved).sum(1)
        count += len(born)
    return {
        "count": count,
        "rate": 1000 * seen / count,
        "chance": 1000 * shifted.mean() / count,
        "p": (1 + int((shifted >= seen).sum())) / (1 + SHIFTS),
    }
