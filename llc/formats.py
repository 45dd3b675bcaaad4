"""Weights in files and folders of every common kind, as tensors by name.

Nothing but tensors and plain values is unpickled, wherever the weights come from.
"""

import io
import json
import logging
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llc.errors import InputError

__all__ = [
    "INDEX",
    "LOG",
    "SUFFIXES",
    "WRAPPERS",
    "find_state_dict",
    "is_model_folder",
    "is_state_dict",
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
# What a training script saves beside the weights, by the first part of its name.
BESIDE = ("optim", "sched", "rng", "scaler", "dataloader")
LOG = logging.getLogger("llc")
"""Says what was done to a checkpoint's names."""


def is_model_folder(path: Path) -> bool:
    """Whether a folder is one checkpoint: sharded safetensors, or a distributed one (DCP)."""
    return path.is_dir() and (bool(_index(path)) or (path / ".metadata").is_file())


def read_folder(path: Path) -> Any:
    """Read the one checkpoint that a folder is.

    Raises:
        InputError: it holds none, or one in parts of which some are missing.
    """
    if (path / ".metadata").is_file():
        return _read_distributed(path)
    if _index(path):
        return read_shards(_index(path)[0])
    if (path / WHOLE[0]).is_file():
        return read_file(path / WHOLE[0])
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
        places = dict(json.loads(index.read_text())["weight_map"])
        files = sorted(set(map(str, places.values())))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{index.name} is no index of safetensors files: expected JSON with a weight_map"
        ) from error
    found: dict[str, Tensor] = {}
    for name in files:
        # A name, not a path: an index may not reach out of its folder.
        part = index.parent / Path(name).name
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
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


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
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path.name} is not a safetensors file: {error}") from error


def _read_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # Of pickle protocols and storages: nothing a user of the weights can act on.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if _looks_pickled(path):
            raise InputError(
                f"{path.name} holds pickled objects besides tensors and plain values, which "
                "loading would execute: save model.state_dict() alone"
            ) from error
        raise InputError(f"{path.name} is not a torch checkpoint: {_first(error)}") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path.name} is not a torch checkpoint: {_first(error)}") from error


def _looks_pickled(path: Path) -> bool:
    """Whether the file starts as torch's zip archives or as pickles of protocol 2 on do."""
    with path.open("rb") as file:
        return file.read(2)[:2].startswith((b"PK", b"\x80"))


def find_state_dict(content: Any, name: str) -> Mapping[str, Tensor]:
    """Return the one state dict that a file's content is or holds.

    Raises:
        InputError: there is none, or several.
    """
    if is_state_dict(content):
        return content
    if isinstance(content, Mapping):
        inside = {key: value for key, value in content.items() if is_state_dict(value)}
        if len(inside) == 1:
            return next(iter(inside.values()))
        if inside:
            raise InputError(
                f"{name} holds {len(inside)} state dicts ({', '.join(map(str, inside))}), "
                "expected one: save the one you mean to a file of its own"
            )
        keys = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise InputError(f"{name} holds {keys}, but no state dict: save model.state_dict()")
    raise InputError(
        f"{name} holds a {type(content).__name__}, expected a state dict or a dictionary that "
        "holds one: save model.state_dict()"
    )


def is_state_dict(value: Any) -> bool:
    """Whether a value maps names to tensors, and nothing else."""
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )


def unwrap(weights: Mapping[str, Tensor], name: str = "the checkpoint") -> dict[str, Tensor]:
    """Take the prefixes of ``DataParallel`` and ``torch.compile`` off; the log says so."""
    result = dict(weights)
    while result and (
        prefix := next((p for p in WRAPPERS if all(k.startswith(p) for k in result)), None)
    ):
        result = {key.removeprefix(prefix): value for key, value in result.items()}
        LOG.info("%s: prefix %r of %s taken off", name, prefix, MADE_BY[prefix])
    return result


def _index(path: Path) -> list[Path]:
    return sorted(p for p in path.glob(f"*{INDEX}") if not p.name.startswith("."))


def _read_distributed(path: Path) -> dict[str, Any]:
    """Read the tensors of a DCP folder but an optimiser's, by the first part of their names."""
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    _refuse_pickled_code(path / ".metadata")
    reader = dcp.FileSystemReader(path)
    try:
        known = reader.read_metadata()
        places = known.planner_data or {}
        groups: dict[str, dict[str, str]] = {}
        wanted: dict[str, Any] = {}
        for key, kind in known.state_dict_metadata.items():
            first, *rest = map(str, places.get(key, (key,)))
            if not isinstance(kind, TensorStorageMetadata) or (rest and first.startswith(BESIDE)):
                continue
            wanted[key] = torch.empty(kind.size, dtype=kind.properties.dtype)
            groups.setdefault(first if rest else "", {})[".".join(rest) or first] = key
        with warnings.catch_warnings():
            # That there is no process group: none is needed.
            warnings.simplefilter("ignore")
            dcp.load(wanted, storage_reader=reader, no_dist=True)
    except (RuntimeError, OSError, ValueError, KeyError, dcp.CheckpointException) as error:
        raise InputError(
            f"{path.name} is no whole distributed checkpoint: {_first(error)}"
        ) from error
    found = {g: {name: wanted[key] for name, key in names.items()} for g, names in groups.items()}
    return {**found.pop("", {}), **found}


class _Harmless(pickle.Unpickler):
    """Builds nothing but what the metadata of distributed checkpoints are made of."""

    def find_class(self, module: str, name: str) -> Any:
        known = module.startswith(("torch.distributed.checkpoint.", "pathlib"))
        known = known or (module, name) in (
            ("torch", "Size"), ("torch.serialization", "_get_layout"),
            ("collections", "OrderedDict"), ("builtins", "set"), ("torch._utils", "_get_layout"),
        )  # fmt: skip
        found = super().find_class(module, name) if known or module == "torch" else None
        if known and (isinstance(found, type) or name == "_get_layout"):
            return found
        if module == "torch" and isinstance(found, torch.dtype):
            return found
        raise pickle.UnpicklingError(f"{module}.{name}")


def _refuse_pickled_code(path: Path) -> None:
    """Refuse a description that torch would unpickle, if that could run anything of its own."""
    try:
        _Harmless(io.BytesIO(path.read_bytes())).load()
    except Exception as error:  # whatever a broken pickle raises
        raise InputError(
            f"{path.parent.name} holds a description ({path.name}) that is none of a distributed "
            f"checkpoint ({_first(error)}): save it with torch.distributed.checkpoint.save"
        ) from error


def _suffixes() -> str:
    return ", ".join(SUFFIXES)


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
