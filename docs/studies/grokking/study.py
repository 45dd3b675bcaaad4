"""Regenerate the study: train, measure, draw, write the page.

    python docs/studies/grokking/study.py --work runs/grokking

Every part goes on where it was stopped; what it found is written to ``results/PART.json`` beside
this file. ``numbers``, ``claims`` and the page with its figures read only those files. On two cores
it takes about two hours, a third of it the transformer.
"""

import argparse
import importlib
import sys
import time
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
PARTS = (
    "train", "circuits", "trace", "power", "recipe", "settings", "matched", "barriers", "planting",
    "mixtures", "symmetries", "transformer", "numbers", "claims",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/grokking"), help="checkpoints")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--only", nargs="+", choices=[*PARTS, "page"], default=[*PARTS, "page"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    sys.path.insert(0, str(HERE))
    from parts import common

    for part in PARTS:
        if part not in options.only:
            continue
        start = time.monotonic()
        module = importlib.import_module(f"parts.{part}")
        common.keep(part, module.compute(options.work, options.workers))
        print(f"{part}: {time.monotonic() - start:.0f} s", flush=True)
    if "page" in options.only:
        importlib.import_module("draw").draw()
        importlib.import_module("page").write()


if __name__ == "__main__":
    main()
