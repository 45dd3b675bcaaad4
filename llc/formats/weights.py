"""Weights in files and folders of every common kind, as tensors by name.

Nothing but tensors and plain values is unpickled, wherever the weights come from; files that a
file names are looked for beside it and nowhere else.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from llc.archives import UNREADABLE
from llc.errors import InputError
from llc.files import read_json
from llc.formats.distributed import DESCRIPTION, read_distributed
from llc.formats.entries import relabelled
from llc.formats.pickled import read_pickle

__all__ = [
    "INDEX",
    "LOG",
    "SUFFIXES",
    "WRAPPERS",
    "check_size",
    "is_model_folder",
    "numbers",
    "read_file",
    "read_folder",
    "read_shards",
    "unwrap",
]

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt")
INDEX = ".safetensors.index.json"
WRAPPERS = ("module.", "_orig_mod.")
MADE_BY = {"module.": "DataParallel", "_orig_mod.": "torch.compile"}
WHOLE = ("model.safetensors", "pytorch_model.bin")
ADAPTER = "adapter_model.safetensors"
"""What PEFT calls the weights of an adapter."""
MOST_SPREAD = 64
ROOM = 2**28
LOG = logging.getLogger("llc")
"""Says what was done to a checkpoint's names."""


def is_model_folder(path: Path) -> bool:
    """Whether a folder is one checkpoint: sharded safetensors, or a distributed one (DCP)."""
    return path.is_dir() and (bool(_index(path)) or (path / DESCRIPTION).is_file())


def read_folder(path: Path) -> Any:
    """Read the one checkpoint that a folder is.

    Raises:
        InputError: it holds none, or one in parts of which some are missing.
    """
    if (path / DESCRIPTION).is_file():
        return read_distributed(path)
    if _index(path):
        return read_shards(_index(path)[0])
    for name in (WHOLE[0], ADAPTER):
        if (path / name).is_file():
            return read_file(path / name)
    count = sum(each.suffix in SUFFIXES for each in path.iterdir())
    if count:
        raise InputError(
            f"{path.name} is a folder of {count} checkpoint{'s' if count > 1 else ''}, expected "
            "one: name the file, or estimate every one of them by rlct trace"
        )
    raise InputError(
        f"{path.name} is a folder without one model in it, expected model.safetensors, "
        f"model{INDEX} with its parts, or what torch.distributed.checkpoint saved: name a file "
        "in it"
    )


def read_shards(index: Path) -> dict[str, Tensor]:
    """Read weights that lie in several safetensors files, by the index beside them.

    Raises:
        InputError: the index cannot be read, or a part or a tensor is missing.
    """
    try:
        places = dict(read_json(index)["weight_map"])
        files = sorted(set(map(str, places.values())))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{index.name} is no index of safetensors files: expected JSON with a weight_map"
        ) from error
    found: dict[str, Tensor] = {}
    for name in files:
        # A name, not a path: an index may not reach out of its folder, nor may a link do it.
        part = index.parent / Path(name).name
        if part.is_file() and not _is_beside(part):
            raise InputError(
                f"{index.name} names {part.name}, a link to {part.resolve()}, which lies "
                "elsewhere, expected all parts in one folder: copy it there"
            )
        if not part.is_file():
            raise InputError(
                f"{index.name} names {name}, which is not there: copy all {len(files)} parts into "
                "one folder"
            )
        found.update(_read_safetensors(part))
    missing = [key for key in places if key not in found]
    if missing:
        raise InputError(f"{index.name} names {missing[0]}, which no part holds: copy them again")
    return found


def read_file(path: Path) -> Any:
    """Read all that one file holds.

    Raises:
        InputError: it is missing, or no checkpoint.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist, expected a checkpoint file ({_suffixes()})")
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path.name} ends in {path.suffix!r}, expected {_suffixes()}")
    return _read_safetensors(path) if path.suffix == ".safetensors" else read_pickle(path)


def numbers(content: Mapping[Any, Any]) -> dict[str, float]:
    """Numbers and tensors of one element among the entries of a dictionary."""
    found = {}
    for key, value in content.items():
        if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
            value = value.item()  # noqa: PLW2901 - a number from here on
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[str(key)] = float(value)
    return dict(sorted(found.items()))


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, *UNREADABLE) as error:
        raise InputError(f"{path.name} is not a safetensors file: {error}") from error


def _is_beside(part: Path) -> bool:
    """Whether a file lies in its folder; the hub's cache keeps its own in ``blobs`` beside it."""
    home, place = part.parent.resolve(), part.resolve()
    cached = home.parent.name == "snapshots" and place.parent == home.parent.parent / "blobs"
    return cached or place.parent == home


def check_size(weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that repeat a few stored numbers without end.

    Raises:
        InputError: they would be more than 64 times what is on the disk, and more than 256 MiB.
    """
    files = [part for part in path.iterdir() if part.is_file()] if path.is_dir() else [path]
    there = sum(file.stat().st_size for file in files)
    wanted = sum(w.numel() * w.element_size() for w in weights.values() if isinstance(w, Tensor))
    if wanted > max(ROOM, MOST_SPREAD * there):
        raise InputError(
            f"{path.name} holds {there:,} bytes that claim to be {wanted:,} bytes of weights, by "
            "repeating them: save model.state_dict() with contiguous tensors"
        )


def unwrap(weights: Mapping[str, Tensor], name: str = "the checkpoint") -> dict[str, Tensor]:
    """Take the prefixes of ``DataParallel`` and ``torch.compile`` off; the log says so."""
    result = relabelled(weights, {key: key for key in weights})
    while result and (
        prefix := next((p for p in WRAPPERS if all(k.startswith(p) for k in result)), None)
    ):
        result = relabelled(result, {key: key.removeprefix(prefix) for key in result})
        LOG.info("%s: prefix %r of %s taken off", name, prefix, MADE_BY[prefix])
    return result


def _index(path: Path) -> list[Path]:
    return sorted(p for p in path.glob(f"*{INDEX}") if not p.name.startswith("."))


def _suffixes() -> str:
    return ", ".join(SUFFIXES)
