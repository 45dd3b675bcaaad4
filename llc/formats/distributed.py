"""Checkpoints of ``torch.distributed.checkpoint`` (DCP): a folder of parts and its description."""

import io
import pickle
import warnings
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from llc.errors import InputError

__all__ = ["DESCRIPTION", "read_distributed"]

DESCRIPTION = ".metadata"
# What a training script saves beside the weights, by the first part of its name.
BESIDE = ("optim", "sched", "rng", "scaler", "dataloader")
METADATA = "torch.distributed.checkpoint.metadata"
KNOWN = {
    *((METADATA, name) for name in (
        "Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "TensorProperties",
        "ChunkStorageMetadata", "MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING",
    )),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.distributed.checkpoint.filesystem", "_StoragePrefix"),
    ("torch", "Size"), ("torch", "device"), ("torch.serialization", "_get_layout"),
    ("torch._utils", "_get_layout"), ("collections", "OrderedDict"), ("builtins", "set"),
    ("pathlib", "PosixPath"), ("pathlib", "PurePosixPath"), ("pathlib", "WindowsPath"),
    ("pathlib._local", "PosixPath"),
}  # fmt: skip
"""All that a description is made of; names with dots, which reach into other modules, never are."""
SPARE = 2**20


def read_distributed(path: Path) -> dict[str, Any]:
    """Read the tensors of a DCP folder but an optimiser's, by the first part of their names.

    Raises:
        InputError: the description is none, asks for code, for files elsewhere or for more than the
            folder holds, or parts are missing.
    """
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    known = _described(path)
    reader = dcp.FileSystemReader(path)
    try:
        _refuse_elsewhere(path, known)
        places = known.planner_data or {}
        groups: dict[str, dict[str, str]] = {}
        sizes: dict[str, Any] = {}
        for key, kind in known.state_dict_metadata.items():
            first, *rest = map(str, places.get(key, (key,)))
            if not isinstance(kind, TensorStorageMetadata) or (rest and first.startswith(BESIDE)):
                continue
            sizes[key] = kind
            groups.setdefault(first if rest else "", {})[".".join(rest) or first] = key
        _refuse_more_than_there_is(path, list(sizes.values()))
        wanted = {
            key: torch.empty(kind.size, dtype=kind.properties.dtype) for key, kind in sizes.items()
        }
        with warnings.catch_warnings():
            # That there is no process group: none is needed.
            warnings.simplefilter("ignore")
            dcp.load(wanted, storage_reader=reader, no_dist=True)
    except InputError:
        raise
    except (Exception, dcp.CheckpointException) as error:  # whatever broken parts raise
        raise InputError(
            f"{path.name} is no whole distributed checkpoint: {_first(error)}"
        ) from error
    found = {g: {name: wanted[key] for name, key in names.items()} for g, names in groups.items()}
    return {**found.pop("", {}), **found}


class _Harmless(pickle.Unpickler):
    """Builds nothing but what the metadata of distributed checkpoints are made of."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in KNOWN:
            return super().find_class(module, name)
        found = getattr(torch, name, None) if module == "torch" else None
        if isinstance(found, torch.dtype):
            return found
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not run")


def _described(path: Path) -> Any:
    """Read the description, which torch would unpickle whatever it asks for."""
    from torch.distributed.checkpoint.metadata import Metadata

    try:
        found = _Harmless(io.BytesIO((path / DESCRIPTION).read_bytes())).load()
        if not isinstance(found, Metadata):
            raise TypeError(f"it is a {type(found).__name__}")
        return found
    except Exception as error:  # whatever a broken pickle raises
        raise InputError(
            f"{path.name} holds a description ({DESCRIPTION}) that is none of a distributed "
            f"checkpoint ({_first(error)}): save it with torch.distributed.checkpoint.save"
        ) from error


def _refuse_elsewhere(path: Path, known: Any) -> None:
    """Parts lie in the folder: a description may not name files out of it, nor links lead there."""
    home = path.resolve()
    for place in (known.storage_data or {}).values():
        name = place.relative_path
        inside = isinstance(name, str) and ".." not in PurePosixPath(name).parts
        if not inside or not (path / name).resolve().is_relative_to(home):
            raise InputError(
                f"{path.name} names the part {str(name)[:80]!r}, which lies elsewhere, expected "
                "all parts in the folder: copy them there"
            )


def _refuse_more_than_there_is(path: Path, kinds: list[Any]) -> None:
    wanted = sum(torch.Size(kind.size).numel() * kind.properties.dtype.itemsize for kind in kinds)
    there = sum(part.stat().st_size for part in path.iterdir() if part.is_file())
    if wanted > there + SPARE:
        raise InputError(
            f"{path.name} describes {wanted:,} bytes of weights and holds {there:,}, expected all "
            "parts in the folder: copy it again"
        )


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
