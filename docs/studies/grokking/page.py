"""Fill ``index.md.jinja`` with numbers from ``results/*.json``; `study.py` calls it."""

from pathlib import Path
from typing import Any

import jinja2
from parts import common

from llc.estimation.estimate import rounded

HERE = Path(__file__).resolve().parent
PARTS = (
    "train", "circuits", "trace", "power", "recipe", "settings", "matched", "barriers", "planting",
    "mixtures", "symmetries", "transformer", "numbers", "claims",
)  # fmt: skip


def render() -> str:
    """Return the page as Markdown."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"k": thousands, "pm": with_error, "g": short, "name": name}
    values: dict[str, Any] = {part: common.kept(part) for part in PARTS}
    values["understood"], values["chosen"] = common.understood(), common.chosen()
    values["control"], values["n"] = common.CONTROL, common.N
    values |= _spans(values)
    return environment.get_template("index.md.jinja").render(**values)


def _spans(of: dict[str, Any]) -> dict[str, Any]:
    """Smallest and largest of what the page names in ranges, and a few sums."""
    claims, able = of["claims"], of["understood"]
    span = lambda values: (min(values), max(values))
    planted = claims["circuitry"]["rows"].values()
    near = claims["connected"]["rows"].values()
    late = {
        name: [i for i, s in enumerate(of["trace"][name]["step"]) if s >= common.window(name)[0]]
        for name in able
    }
    column = lambda key: [of["trace"][name][key][i] for name in able for i in late[name]]
    by_setting = of["settings"].values()
    keys = list(next(iter(by_setting)))
    return {
        "setting_keys": keys,
        "setting_saturation": {k: span([v for r in by_setting for v in r[k]["saturation"]])
                               for k in keys},
        "setting_failed": {k: sum(r[k]["verdict"].count("fail") for r in by_setting)
                           for k in keys},
        "ablated": [row for run, found in of["mixtures"].items() for row in _ablated(run, found)],
        "equal_norm": {run: _greatest(kinds["norm"]["transitions"])
                       for run, kinds in of["matched"].items()},
        "understood_barriers": span([claims["outside"]["rows"][n]["memorised"] for n in able]),
        "planted_rise": span([row["llc"][-1] - row["llc"][0] for row in planted]),
        "planting_counts": next(iter(planted))["planted"],
        "mixture_loss": span([row["loss"] for row in claims["mixtures"]["rows"].values()]),
        "mixture_ends": max(row["ends"] for row in claims["mixtures"]["rows"].values()),
        "highest_neighbour": max(row["highest"] for row in near),
        "neighbours": sum(row["pairs"] for row in near),
        "checkpoints": sum(len(run["step"]) for run in of["trace"].values()),
        "failed": sum(run["verdict"].count("fail") for run in of["trace"].values()),
        "saturation": span(column("saturation")),
        "null_over": span([n / x for n, x in zip(column("null"), column("llc"), strict=True)]),
        "recipe_loss": span(of["recipe"]["sampled_loss"]),
    }  # fmt: skip


def _ablated(run: str, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the networks half-way through grokking: whole, restricted, excluded."""
    table = found["ablated"]
    keys = ("network", "train_loss", "test_accuracy", "llc", "mcse")
    return [
        {"run": run, "step": step, **{key: table[key][i] for key in keys}}
        for i, step in enumerate(table["of_step"])
        if step == found["middle"]
    ]


def _greatest(transitions: dict[str, Any]) -> dict[str, Any]:
    found, evidence = transitions["found"], transitions["evidence"]
    return {
        "ahead": evidence["jumps"] - max(evidence["smooth"], evidence["constant"]),
        "greatest": max(found, key=lambda one: abs(one[3])) if found else None,
        "others": max(len(found) - 1, 0),
    }


def write() -> None:
    """Write the page."""
    (HERE / "index.md").write_text(render())


def thousands(value: float | None) -> str:
    return "never" if value is None else f"{value:,.0f}"


def with_error(value: float, error: float) -> str:
    return " ± ".join(rounded(value, error))


def short(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}g}"


def name(run: str) -> str:
    return run.replace("-", " ")
