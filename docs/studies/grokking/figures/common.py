"""Looks that the study's figures share. All of them draw from results/*.json alone."""

from pathlib import Path
from typing import Any

import numpy as np
from parts import common
from PIL import Image

from llc import plot
from llc.plot.figures import COLOURS, CYCLE, PAGE, plain_ticks, sheet

__all__ = [
    "COLOURS",
    "CYCLE",
    "PAGE",
    "column",
    "look",
    "plain_ticks",
    "save",
    "sheet",
    "thousands",
]

IMAGES = Path(__file__).parents[1] / "images"


def look(name: str) -> dict[str, Any]:
    """Colour and words for a run: colours for those that understood, greys for the others."""
    trained = common.kept("train")
    if name == common.CONTROL:
        return {"color": "black", "ls": (0, (4, 2)), "label": "random labels"}
    if trained[name]["grokked"] is None:
        never = [n for n in trained if trained[n]["grokked"] is None]
        style = "-" if name == never[0] else (0, (1, 1))
        return {"color": COLOURS["muted"], "ls": style, "label": f"{words(name)}, not by 40k"}
    understood = [n for n in trained if trained[n]["grokked"] is not None]
    return {"color": CYCLE[understood.index(name)], "ls": "-", "label": words(name)}


def words(name: str) -> str:
    return name.replace("-", " ")


def column(values: list) -> np.ndarray:
    """A column of results; null where there was no number."""
    return np.array([np.nan if v is None else v for v in values], dtype=float)


def thousands(ax: Any) -> None:
    """Label steps as 10k, 20k, …"""
    ax.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x else "0")
    ax.set_xlabel("training step")


def save(figure: Any, name: str) -> None:
    """Write a PNG of 128 colours, a third of the size and the same to the eye."""
    path = IMAGES / f"{name}.png"
    plot.save(figure, path)
    path.with_suffix(".caption.txt").unlink(missing_ok=True)
    with Image.open(path) as image:
        image.convert("RGB").quantize(128).save(path, optimize=True)
