"""A run folder: estimates kept with a fingerprint of everything that decides them."""

import functools
import hashlib
import inspect
import json
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

import llc
from llc.errors import InputError
from llc.estimation import Estimate
from llc.files import write_whole
from llc.settings import Settings
from llc.task import Task

__all__ = ["RunFolder", "fingerprint_task", "fingerprint_weights"]


class RunFolder:
    """``run.json``, ``estimates/STEP.json`` and ``.npz``; a result is reused only if it fits."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def find(self, step: int, fingerprint: str) -> Estimate | None:
        """Return a step's finished estimate, or None if there is none with this fingerprint."""
        path = self._path(step)
        try:
            if self._mark(step)["fingerprint"] != fingerprint:
                return None
            return Estimate.load(path)
        except (OSError, ValueError, LookupError, TypeError, InputError):
            # Unfinished or foreign: computed anew.
            return None

    def keep(
        self, step: int, fingerprint: str, estimate: Estimate, metadata: Mapping[str, float]
    ) -> None:
        """Save an estimate; the fingerprint last, so that a kill between files leaves no trace."""
        path = self._path(step)
        path.with_suffix(".fingerprint").unlink(missing_ok=True)
        estimate.save(path)
        self.annotate(step, fingerprint, metadata)
        path.with_suffix(".skipped").unlink(missing_ok=True)

    def annotate(self, step: int, fingerprint: str, metadata: Mapping[str, float]) -> None:
        """Write a finished estimate's fingerprint and metadata, unless they are there already."""
        record = {"fingerprint": fingerprint, "metadata": dict(metadata)}
        content = json.dumps(record).encode()
        path = self._path(step).with_suffix(".fingerprint")
        if not path.is_file() or path.read_bytes() != content:
            write_whole(path, content)

    def skip(self, step: int, reason: str) -> None:
        """Keep the sentence that says why a step could not be estimated."""
        self._path(step).with_suffix(".fingerprint").unlink(missing_ok=True)
        write_whole(self._path(step).with_suffix(".skipped"), json.dumps(reason).encode())

    def record(self) -> dict[str, Any]:
        """Return what ``run.json`` holds.

        Raises:
            InputError: there is none, or it cannot be read.
        """
        path = self.folder / "run.json"
        try:
            found = json.loads(path.read_text())
            if not isinstance(found["steps"], list) or not isinstance(found["task"], str):
                raise ValueError("no steps or no task")
            Settings.from_dict(found["settings"])
            return found
        except FileNotFoundError as error:
            raise InputError(
                f"{self.folder} holds no run.json, expected a folder that rlct trace wrote"
            ) from error
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise InputError(
                f"{path} is not what rlct trace writes ({error}): run the same rlct trace again"
            ) from error

    def points(self) -> Iterator[tuple[int, Estimate, dict[str, float]]]:
        """Yield (step, estimate, metadata) of what is finished, by step.

        Raises:
            InputError: a finished estimate cannot be read.
        """
        wanted = set(self.record()["steps"])
        for path in self._files(".fingerprint"):
            step = int(path.stem)
            if step not in wanted:
                continue
            try:
                metadata = dict(self._mark(step)["metadata"])
                estimate = Estimate.load(self._path(step))
            except (OSError, ValueError, LookupError, TypeError, InputError) as error:
                raise InputError(
                    f"step {step} of {self.folder} cannot be read ({error}): run the same rlct "
                    "trace again, which computes it anew"
                ) from error
            yield step, estimate, metadata

    def skipped(self) -> dict[int, str]:
        """Return step → sentence for what could not be estimated."""
        wanted = set(self.record()["steps"])
        found = {int(path.stem): path for path in self._files(".skipped")}
        return {
            step: json.loads(path.read_text()) for step, path in found.items() if step in wanted
        }

    def _files(self, ending: str) -> list[Path]:
        found = (self.folder / "estimates").glob(f"[0-9]*{ending}")
        return sorted(found, key=lambda path: int(path.stem))

    def _mark(self, step: int) -> dict[str, Any]:
        return json.loads(self._path(step).with_suffix(".fingerprint").read_text())

    def describe(self, task: Task, settings: Settings, steps: list[int]) -> None:
        """Write ``run.json``: resolved settings, versions, what was sampled."""
        record = {
            "task": task.label,
            "steps": steps,
            "settings": settings.to_dict(),
            "task_fingerprint": fingerprint_task(task),
            "versions": {
                "llc": llc.__version__, "torch": torch.__version__, "numpy": np.__version__,
            },
        }  # fmt: skip
        write_whole(self.folder / "run.json", json.dumps(record, indent=1).encode())

    def settings(self) -> Settings | None:
        """Return the settings of ``run.json``, or None if there is none to read."""
        try:
            record = json.loads((self.folder / "run.json").read_text())
            return Settings.from_dict(record["settings"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def task_fingerprint(self) -> str | None:
        """Return the task's fingerprint of ``run.json``, or None."""
        try:
            return json.loads((self.folder / "run.json").read_text())["task_fingerprint"]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _path(self, step: int) -> Path:
        return self.folder / "estimates" / f"{step:07d}.json"


def fingerprint_weights(weights: Mapping[str, Tensor], task: str, settings: Settings) -> str:
    """Hash weights together with a task's fingerprint, the settings and our version."""
    digest = hashlib.sha256(f"{llc.__version__}\n{task}\n{_settings_key(settings)}".encode())
    for name in sorted(weights):
        digest.update(name.encode())
        _add_tensor(digest, weights[name])
    return digest.hexdigest()


def fingerprint_task(task: Task) -> str:
    """Hash data, architecture and the code of the loss, but not the weights.

    The loss counts by name, bytecode and constants, and by those of the functions nested in
    it; what it reads from elsewhere (globals, closures) is not seen.
    """
    digest = hashlib.sha256(str(task.model).encode())
    for name, parameter in task.model.named_parameters():
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.requires_grad}".encode())
    digest.update(_source(type(task.model)))
    for leaf in tree_flatten(task.data)[0]:
        if isinstance(leaf, Tensor):
            _add_tensor(digest, leaf)
    for part in (task.loss, task.batch_loss, task.potential):
        digest.update(_code_key(part).encode())
    return digest.hexdigest()


def _settings_key(settings: Settings) -> str:
    values = settings.to_dict()
    values.pop("reasons")
    return json.dumps(values, sort_keys=True)


def _add_tensor(digest: Any, tensor: Tensor) -> None:
    tensor = tensor.detach().cpu().contiguous()
    digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    # Viewed as bytes, since numpy has no bfloat16.
    digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())


def _source(kind: type) -> bytes:
    try:
        return inspect.getsource(kind).encode()
    except (OSError, TypeError):
        return kind.__qualname__.encode()


def _code_key(function: Any) -> str:
    """Describe a function by what it does; never by its address, which changes between runs."""
    if isinstance(function, functools.partial):
        inside = sorted(function.keywords.items())
        return f"partial {_code_key(function.func)} {function.args} {inside}"
    code = getattr(function, "__code__", None)
    if code is not None:
        return f"{function.__qualname__} {_code_text(code)}"
    if isinstance(function, torch.nn.Module):
        return f"{function} {_source(type(function)).decode()}"
    if callable(function):
        name = getattr(function, "__qualname__", None) or type(function).__qualname__
        call = getattr(type(function).__call__, "__code__", None)
        return f"{name} {'' if call is None else _code_text(call)}"
    return repr(function)


def _code_text(code: types.CodeType) -> str:
    return f"{code.co_code.hex()} {code.co_names} {[_constant(c) for c in code.co_consts]}"


def _constant(value: Any) -> str:
    if isinstance(value, types.CodeType):
        return _code_text(value)
    if isinstance(value, frozenset):
        return repr(sorted(map(repr, value)))
    return repr(value)
