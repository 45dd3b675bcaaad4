"""The seven claims: the number that decides each, its control, and the rule it is decided by.

Rules are applied by this file, not by hand: a claim is *supported* or *refuted* if its rule says so
for every network asked, else *undecided*.
"""

from pathlib import Path
from typing import Any

import numpy as np

from parts import common

DOZENS = 24
NOTICED = 0.9
SMALL = 0.01


def compute(work: Path, workers: int) -> dict[str, Any]:
    """Decide from the other parts' results."""
    return {
        "many_basins": many_basins(),
        "lowest": lowest(),
        "outside": outside(),
        "circuitry": circuitry(),
        "symmetries": symmetries(),
        "mixtures": mixtures(),
        "connected": connected(),
    }


def verdict(supported: list[bool], refuted: list[bool]) -> str:
    """All for, all against, or neither."""
    if supported and all(supported):
        return "supported"
    return "refuted" if refuted and all(refuted) else "undecided"


def many_basins() -> dict[str, Any]:
    """Transitions between memorising and understanding.

    Supported by 24 or more in every network; refuted by fewer than 12 in each, where staircases of
    12 and of 24 plateaus would have been noticed nine times in ten.
    """
    traced, power = common.kept("trace"), common.kept("power")["runs"]
    found = {n: len(traced[n]["transitions"]["window"]["found"]) for n in common.understood()}
    noticed = {n: min(_share(power[n][str(k)]) for k in (12, DOZENS)) for n in found}
    evidence = [traced[n]["transitions"]["window"]["evidence"] for n in found]
    ahead = [e["smooth"] - e["jumps"] for e in evidence]
    return {
        "found": found, "noticed": noticed, "smooth_ahead": [min(ahead), max(ahead)],
        "false": [sum(c > 0 for p in power.values() for c in p["0"]),
                  sum(len(p["0"]) for p in power.values())],
        "counted": {k: np.mean([np.median(p[str(k)]) for p in power.values()])
                    for k in (2, 3, 6, 12, 24, 48)},
        "control": {n: len(traced[n]["transitions"]["window"]["found"])
                    for n in traced if n not in found},
        "verdict": verdict([c >= DOZENS for c in found.values()],
                           [found[n] < 12 and noticed[n] >= NOTICED for n in found]),
    }  # fmt: skip


def _share(counts: list[int]) -> float:
    return float(np.mean(np.array(counts) > 0))


def lowest() -> dict[str, Any]:
    """Is the grokked network's LLC the lowest since memorising, as trained, at each setting whose
    chains stay within the model, and at equal norm and confidence?

    Supported where in every network the last LLC is within three standard errors of the lowest, or
    below; refuted where in every network it is higher.
    """
    groups = {f"as trained, {n}": common.kept("trace")[n] for n in common.understood()}
    for name, by_key in common.kept("settings").items():
        if name in common.understood():
            groups |= {f"{key}, {name}": run for key, run in by_key.items()
                       if "fail" not in run["verdict"]}  # fmt: skip
    for name, by_key in common.kept("matched").items():
        if name in common.understood():
            groups |= {f"equal {key}, {name}": run for key, run in by_key.items()}
    z = {}
    for key, run in groups.items():
        late = np.array(run["step"]) >= common.window(key.rpartition(", ")[2])[0]
        llc, error = (np.array(run[c], float)[late] for c in ("llc", "mcse"))
        low = int(llc.argmin())
        z[key] = float((llc[-1] - llc[low]) / max(np.hypot(error[-1], error[low]), 1e-9))
    return {"z": z, "verdict": verdict([v <= 3 for v in z.values()], [v > 3 for v in z.values()])}


def outside() -> dict[str, Any]:
    """The barrier on the way to the last network.

    Supported where in every network the barrier after memorising is above .1 nats on the straight
    line, falls below .01 for good not earlier than at 50 % of held-out pairs right, and no curve
    goes round it (above .01 too); refuted where the straight one is below .01 from memorising on.
    """
    found, trained = common.kept("barriers")["runs"], common.kept("train")
    rows = {}
    for name, run in found.items():
        steps, height = np.array(run["step"]), np.array(run["height"], float)
        low, _ = common.window(name)
        above = steps[height >= SMALL]
        half = common.first_step(trained[name]["curves"], "test_accuracy", 0.5)
        rows[name] = {
            "memorised": float(height[np.abs(steps - low).argmin()]),
            "gone": float(steps[steps > above[-1]][0]) if len(above) else float(steps[0]),
            "half": half, "grokked": trained[name]["grokked"], "curve": run["curve"],
        }  # fmt: skip
    asked = [rows[n] for n in common.understood()]
    return {
        "rows": rows,
        "verdict": verdict(
            [r["memorised"] > 0.1 and r["gone"] >= r["half"] and r["curve"] > SMALL
             for r in asked],
            [r["memorised"] < SMALL for r in asked],
        ),
        "on_lines": all(r["memorised"] > 0.1 and r["gone"] >= r["half"] for r in asked),
        "curve": max(r["curve"] for r in asked),
    }  # fmt: skip


def circuitry() -> dict[str, Any]:
    """LLC of a grokked network with k planted exceptions, against the same training without.

    Supported where in every network the LLC at the largest k is three standard errors above that
    at 0, and rises with k (Spearman above .8); refuted where it is not above.
    """
    rows = {}
    for name, run in common.kept("planting")["runs"].items():
        llc, error = np.array(run["llc"], float), np.array(run["mcse"], float)
        rank = np.argsort(np.argsort(llc))
        rows[name] = {
            "planted": run["planted"], "llc": llc, "mcse": error,
            "z": (llc[-1] - llc[0]) / np.hypot(error[-1], error[0]),
            "spearman": np.corrcoef(rank, np.arange(len(rank)))[0, 1],
            "fitted": min(run["exceptions_fitted"][1:]),
        }  # fmt: skip
    return {
        "rows": rows,
        "verdict": verdict(
            [r["z"] > 3 and r["spearman"] > 0.8 for r in rows.values()],
            [r["z"] <= 0 for r in rows.values()],
        ),
    }


def symmetries() -> dict[str, Any]:
    """Known symmetries at a memorising and a grokked network, and how alike points of a basin are.

    Supported where every known symmetry leaves the loss, every isometry among them the LLC, and
    the logits' CKA between checkpoints of the grokked network is above .9 and above that between
    it and any other network; refuted where a symmetry changes the loss.
    """
    networks = common.kept("symmetries")["networks"]
    rows = [row for found in networks.values() for row in found["rows"]]
    isometries = [row for row in rows if row["isometry"]]
    most = max(found["most_z"] for found in networks.values())
    loss = max(row["loss_change"] for row in rows)
    z = max(abs(row["z"]) for row in isometries)
    matrix, seeds = common.kept("barriers")["matrix"], common.kept("barriers")["seeds"]
    grokked = common.window(matrix["run"])[1]
    late = [i for i, step in enumerate(matrix["steps"]) if step >= grokked]
    alike = np.array(matrix["cka"]["unembedding"], float)
    inside = min(alike[i, j] for i in late for j in late)
    first = min(i for i, s in enumerate(matrix["steps"]) if s >= common.window(matrix["run"])[0])
    before = alike[first, late[-1]]
    other = max(seed["cka"]["unembedding"] for seed in seeds)
    holds = [row["loss_change"] <= row["tolerance"] for row in rows]
    return {
        "z": z, "most_z": most, "loss": loss, "isometries": len(isometries), "moves": len(rows),
        "inside": inside, "before": before, "other": other,
        "verdict": verdict([*holds, z <= most, inside > 0.9, inside > max(before, other)],
                           [not all(holds)]),
    }  # fmt: skip


def mixtures() -> dict[str, Any]:
    """The half-way mixture of a memorising and a grokked network.

    Supported where in every network it still fits the training pairs (99 %) with a loss within .1
    nats of its ends'; refuted where it does not: then it is a slope between basins, not a basin.
    """
    rows = {}
    for name, run in common.kept("mixtures").items():
        mixed = run["mixed"]
        middle = list(mixed["share"]).index(0.5)
        ends = max(mixed["train_loss"][0], mixed["train_loss"][-1])
        llc = np.array(mixed["llc"], float)
        rows[name] = {
            "loss": mixed["train_loss"][middle], "ends": ends,
            "accuracy": mixed["train_accuracy"][middle], "llc": llc[middle],
            "mcse": mixed["mcse"][middle], "first": llc[0], "last": llc[-1],
        }  # fmt: skip
    own = [r["accuracy"] >= 0.99 and r["loss"] <= r["ends"] + 0.1 for r in rows.values()]
    return {"rows": rows, "verdict": verdict(own, [not x for x in own])}


def connected() -> dict[str, Any]:
    """Barriers between neighbouring checkpoints since memorising.

    Supported where none in any run is above .01 nats; refuted where in every run one is.
    """
    rows = {}
    for name, run in common.kept("barriers")["runs"].items():
        near = run["neighbours"]
        height = np.array(near["height"], float)
        rows[name] = {"highest": height.max(), "step": near["step"][int(height.argmax())],
                      "pairs": len(height)}  # fmt: skip
    asked = [r["highest"] < SMALL for r in rows.values()]
    seeds = common.kept("barriers")["seeds"]
    return {
        "rows": rows,
        "seeds": {key: [min(s[key] for s in seeds), max(s[key] for s in seeds)]
                  for key in ("straight", "aligned", "curve")},
        "verdict": verdict(asked, [not x for x in asked]),
    }  # fmt: skip
