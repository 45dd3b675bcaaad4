"""Which files and folders are checkpoints, as training libraries lay them out."""

import re
from pathlib import Path

from llc.errors import InputError
from llc.formats.distributed import DESCRIPTION

__all__ = [
    "INDEX", "INDEX_OF_PICKLES", "LAID_OUT", "PAGE", "READ", "SUFFIXES", "WHOLE",
    "checkpoints_in", "index_of", "is_checkpoint", "is_model_folder", "one_in",
]  # fmt: skip

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt")
MORE = (".pth.tar", ".pt.tar", ".ckpt.tar", ".bin")
"""Looked for only in folders without the usual ones: ``.bin`` may be anything."""
READ = (*SUFFIXES, *MORE, ".npz")
INDEX = ".safetensors.index.json"
INDEX_OF_PICKLES = ".bin.index.json"
WHOLE = ("model.safetensors", "pytorch_model.bin", "adapter_model.safetensors", "adapter_model.bin")
"""One model each, named alike in the folder of every checkpoint."""
LAID_OUT = re.compile(r"(pytorch_|adapter_)?model\.|mp_rank_\d+_model_states|model_(optim_)?rng\.")
"""Files whose step is that of their folder."""
PAGE = "the page docs/other-formats.md shows how to convert it"
# What trainers save beside the weights, in the same folder.
BESIDE = re.compile(
    r"(optim(izer)?|sched(uler)?|lr_scheduler|(grad_)?scaler|rng_states?|random_states?|"
    r"training_args|distrib_optim)(?![a-z])|.*optim_states\.",
    re.IGNORECASE,
)
ZERO_3 = re.compile(r"zero_pp_rank_\d+_mp_rank_\d+_model_states\.")
PARALLEL = re.compile(r"mp_rank_\d+")


def is_checkpoint(path: Path) -> bool:
    """Whether a file's name is that of weights, rather than of what trainers save beside them."""
    return path.name.endswith(READ) and not BESIDE.match(path.name)


def is_model_folder(path: Path) -> bool:
    """Whether a folder is one checkpoint: sharded weights, or a distributed one (DCP)."""
    return path.is_dir() and (bool(index_of(path)) or (path / DESCRIPTION).is_file())


def index_of(path: Path) -> list[Path]:
    """Return the index of weights that lie in several files, safetensors first; empty if none."""
    for ending in (INDEX, INDEX_OF_PICKLES):
        found = sorted(p for p in path.glob(f"*{ending}") if not p.name.startswith("."))
        if found:
            return found
    return []


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, sorted by name; empty if there is none.

    They are its files; else the folders in it, where a trainer gives each checkpoint a folder
    (Hugging Face, DeepSpeed, Megatron, distributed checkpoints); else what lies in one folder
    ``checkpoints`` below (Lightning).

    Raises:
        InputError: several runs lie in the folder, or checkpoints that lie in parts which cannot be
            joined.
    """
    files = _files(folder)
    # A trainer saves its last model in the folder that holds the checkpoints before it.
    if files and not all(file.name in WHOLE for file in files):
        return files
    found = _in_folders(folder) or files
    if found:
        return found
    places = [
        place
        for pattern in ("checkpoints", "*/checkpoints", "*/*/checkpoints")
        for place in sorted(folder.glob(pattern))
        if place.is_dir() and (_files(place) or _in_folders(place))
    ]
    if len(places) > 1:
        names = ", ".join(str(place.relative_to(folder)) for place in places[:3])
        raise InputError(
            f"{folder} holds the checkpoints of {len(places)} runs ({names}), expected one run: "
            "name its folder"
        )
    return _files(places[0]) or _in_folders(places[0]) if places else []


def one_in(folder: Path) -> Path | None:
    """Return the one file of weights in a checkpoint's own folder; None if there are more or none.

    Raises:
        InputError: the weights lie in parts that cannot be joined.
    """
    whole = [folder / name for name in WHOLE if (folder / name).is_file()]
    found = whole[:1] or _files(folder) or _in_folders(folder)
    return found[0] if len(found) == 1 and not found[0].is_dir() else None


def _in_folders(folder: Path) -> list[Path]:
    found: list[Path] = []
    for place in sorted(folder.iterdir()):
        if not place.is_dir() or place.name.startswith("."):
            continue
        if is_model_folder(place):
            found.append(place)
        elif place.name[-1].isdigit():
            whole = [place / name for name in WHOLE if (place / name).is_file()]
            # Megatron's own folder in the checkpoint's.
            deeper = [p for p in sorted(place.glob("mp_rank_*")) if p.is_dir()]
            _refuse_parts(place, [p.name for p in deeper])
            found += whole[:1] or _files(place) or (_files(deeper[0]) if deeper else [])
    _refuse_parts(folder, [p.parent.name for p in found])
    return found


def _files(folder: Path) -> list[Path]:
    every = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    if any(ZERO_3.match(p.name) for p in every):
        raise InputError(
            f"{folder.name} holds the parts of ZeRO stage 3, expected whole weights: join them "
            "with python zero_to_fp32.py, which DeepSpeed saves beside them"
        )
    for endings in (SUFFIXES, MORE):
        found = [p for p in every if p.name.endswith(endings) and not BESIDE.match(p.name)]
        if found:
            _refuse_parts(folder, [p.name for p in found])
            return found
    return []


def _refuse_parts(folder: Path, names: list[str]) -> None:
    parts = sorted({name for name in names if PARALLEL.match(name)})
    if len(parts) > 1:
        raise InputError(
            f"{folder.name} holds {len(parts)} model-parallel parts ({', '.join(parts[:3])}), "
            "expected whole weights: join them with the tools of the library that saved them"
        )
