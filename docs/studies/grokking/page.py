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
    return environment.get_template("index.md.jinja").render(**values)


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
