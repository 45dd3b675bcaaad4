"""Checkpoints on disk: find them, read weights of any common kind, write our own."""

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llc.errors import InputError
from llc.files import write_whole

__all__ = [
    "SUFFIXES",
    "WRAPPERS",
    "Checkpoint",
    "find_checkpoints",
    "load_weights",
    "read_checkpoint",
    "read_metadata",
    "save_checkpoint",
]

SUFFIXES = (".safetensors", ".pt", ".pth")
WRAPPERS = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class Checkpoint:
    """One saved moment of training.

    Attributes:
        step: training step.
        path: file that holds the weights.
        metadata: what was saved beside them (losses, accuracies); empty if nothing was.
    """

    step: int
    path: Path
    metadata: Mapping[str, float] = field(default_factory=dict)

    def weights(self) -> dict[str, Tensor]:
        """Read the weights."""
        return load_weights(self.path)


def find_checkpoints(folder: str | Path) -> list[Checkpoint]:
    """List the checkpoints of a folder by training step, the last number in each file's name.

    Raises:
        InputError: no such folder, no checkpoint in it, a name without a number, or two files
            of the same step.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder, expected one that holds checkpoints")
    paths = sorted(
        p for p in folder.iterdir() if p.suffix in SUFFIXES and not p.name.startswith(".")
    )
    if not paths:
        raise InputError(f"{folder} holds no checkpoint, expected files ending in {_suffixes()}")
    found: dict[int, Checkpoint] = {}
    for path in paths:
        numbers = re.findall(r"\d+", path.stem)
        if not numbers:
            raise InputError(
                f"{path.name} has no training step in its name: call it step_1000{path.suffix}, say"
            )
        step = int(numbers[-1])
        if step in found:
            raise InputError(
                f"{found[step].path.name} and {path.name} are both step {step}: keep one of them"
            )
        found[step] = Checkpoint(step, path, read_metadata(path))
    return [found[step] for step in sorted(found)]


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from ``.safetensors``, or from ``.pt``/``.pth`` that hold one.

    A training script's dictionary is searched for the one entry that maps names to tensors;
    prefixes of ``DataParallel`` and ``torch.compile`` are removed. Nothing but tensors and plain
    values is unpickled.

    Raises:
        InputError: the file is missing, is no checkpoint, or holds several state dicts.
    """
    path = Path(path)
    return _unwrap(_find_state_dict(_read(path), path.name))


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Read weights, as `load_weights`, and the numbers saved beside them, from one file.

    They stand in the header of a safetensors file, or beside the state dict in a dictionary of
    a ``.pt`` or ``.pth`` file.

    Raises:
        InputError: as `load_weights`.
    """
    path = Path(path)
    content = _read(path)
    weights = _unwrap(_find_state_dict(content, path.name))
    if path.suffix == ".safetensors":
        return weights, read_metadata(path)
    return weights, {} if _is_state_dict(content) else _numbers(content)


def read_metadata(path: str | Path) -> dict[str, float]:
    """Read the numbers saved beside the weights of a safetensors file; others have none."""
    path = Path(path)
    if path.suffix != ".safetensors":
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            raw = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path.name} is not a safetensors file: {error}") from error
    numbers = {}
    for key, value in sorted(raw.items()):
        try:
            numbers[key] = float(value)
        except ValueError:
            continue
    return numbers


def save_checkpoint(
    folder: Path, step: int, weights: Mapping[str, Tensor], metadata: Mapping[str, float]
) -> Checkpoint:
    """Write ``step_NNNNNNN.safetensors`` whole or not at all; metadata go into its header."""
    from safetensors.torch import save

    path = folder / f"step_{step:07d}.safetensors"
    header = {key: repr(float(value)) for key, value in metadata.items()}
    write_whole(
        path, save({k: w.detach().cpu().clone().contiguous() for k, w in weights.items()}, header)
    )
    return Checkpoint(step, path, dict(metadata))


def _read(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path} does not exist, expected a checkpoint file ({_suffixes()})")
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path.name} ends in {path.suffix!r}, expected {_suffixes()}")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def _numbers(content: Mapping[Any, Any]) -> dict[str, float]:
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


def _find_state_dict(content: Any, name: str) -> Mapping[str, Tensor]:
    if _is_state_dict(content):
        return content
    if isinstance(content, Mapping):
        inside = {key: value for key, value in content.items() if _is_state_dict(value)}
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


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )


def _unwrap(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    result = dict(weights)
    while result and (
        prefix := next((p for p in WRAPPERS if all(k.startswith(p) for k in result)), None)
    ):
        result = {key.removeprefix(prefix): value for key, value in result.items()}
    return result


def _suffixes() -> str:
    return ", ".join(SUFFIXES)


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
