"""Weights in files and folders of every common kind, as tensors by name.

Nothing but tensors and plain values is unpickled, wherever the weights come from; files that a
file names are looked for beside it and nowhere else.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llc.archives import UNREADABLE, read_arrays
from llc.errors import InputError, brief
from llc.files import read_json
from llc.formats.distributed import DESCRIPTION, read_distributed
from llc.formats.entries import find_state_dict, relabelled
from llc.formats.layouts import INDEX, PAGE, READ, SUFFIXES, index_of, one_in
from llc.formats.pickled import read_pickle
from llc.formats.recorded import recorded_in_arrays

__all__ = [
    "LOG",
    "WRAPPERS",
    "check_size",
    "numbers",
    "read_file",
    "read_folder",
    "read_shards",
    "unwrap",
]

WRAPPERS = ("module.", "_orig_mod.")
MADE_BY = {"module.": "DataParallel", "_orig_mod.": "torch.compile"}
OTHERS = (
    ".msgpack", ".onnx", ".gguf", ".h5", ".hdf5", ".keras", ".npy", ".zip", ".pb", ".tflite",
)  # fmt: skip
"""Of other libraries, which a page of the documentation shows how to convert."""
ORBAX = ("_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt", "checkpoint")
MOST_SPREAD = 64
ROOM = 2**28
LOG = logging.getLogger("llc")
"""Says what was done to a checkpoint's names."""


def read_folder(path: Path) -> Any:
    """Read the one checkpoint that a folder is.

    Raises:
        InputError: it holds none, or one in parts of which some are missing.
    """
    if (path / DESCRIPTION).is_file():
        return read_distributed(path)
    if index_of(path):
        return read_shards(index_of(path)[0])
    one = one_in(path)
    if one is not None:
        return read_file(one)
    if any((path / name).exists() for name in ORBAX):
        raise InputError(
            f"{path.name} looks like a checkpoint of Orbax or TensorFlow, which is not read: {PAGE}"
        )
    count = sum(each.suffix in SUFFIXES for each in path.iterdir())
    if count:
        raise InputError(
            f"{path.name} is a folder of {count} checkpoint{'s' if count > 1 else ''}, expected "
            "one: name the file, or estimate every one of them by rlct trace"
        )
    raise InputError(
        f"{path.name} is a folder without one model in it, expected model.safetensors, "
        f"model{INDEX} with its parts, one file of weights, or what torch.distributed.checkpoint "
        "saved: name a file in it"
    )


def read_shards(index: Path) -> dict[str, Tensor]:
    """Read weights that lie in several files, by the index beside them.

    Raises:
        InputError: the index cannot be read, or a part or a tensor is missing.
    """
    try:
        places = dict(read_json(index)["weight_map"])
        files = sorted(set(map(str, places.values())))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{index.name} is not an index of files of weights: expected JSON with a weight_map"
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
        found.update(find_state_dict(read_file(part), part.name))
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
    if not path.name.endswith(READ):
        more = f"; {PAGE}" if path.suffix in OTHERS else ""
        raise InputError(f"{path.name} ends in {path.suffix!r}, expected {_suffixes()}{more}")
    if path.suffix == ".npz":
        return _read_npz(path)
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
        raise InputError(f"{path.name} is not a safetensors file: {brief(error)}") from error


def _read_npz(path: Path) -> Any:
    """Arrays by name are a state dict; a step saved among them is a number beside it."""
    try:
        arrays = read_arrays(path)
        beside = recorded_in_arrays(arrays)
        weights = {k: torch.from_numpy(v) for k, v in arrays.items() if k not in beside}
    except (*UNREADABLE,) as error:
        raise InputError(f"{path.name} is not an archive of arrays: {brief(error)}") from error
    return {"weights": weights, **beside} if beside else weights


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
    dense = [w for w in weights.values() if isinstance(w, Tensor) and w.layout is torch.strided]
    wanted = sum(w.numel() * w.element_size() for w in dense)
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


def _suffixes() -> str:
    return ", ".join(READ)
