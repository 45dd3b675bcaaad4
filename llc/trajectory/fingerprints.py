"""Fingerprints of everything that decides an estimate: weights, data, model, loss, settings."""

import functools
import hashlib
import inspect
import json
import types
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_flatten

import llc
from llc.settings import Settings
from llc.task import Task

__all__ = ["fingerprint_parts", "fingerprint_task", "fingerprint_values", "fingerprint_weights"]


def fingerprint_weights(weights: Mapping[str, Tensor], task: str, settings: Settings) -> str:
    """Hash weights together with a task's fingerprint, the settings and our version."""
    digest = hashlib.sha256(f"{llc.__version__}\n{task}\n{_settings_key(settings)}".encode())
    for name in sorted(weights):
        digest.update(name.encode())
        if isinstance(weights[name], Tensor):
            _add_tensor(digest, weights[name])
        else:
            # A module's extra state.
            digest.update(fingerprint_values(weights[name]).encode())
    return digest.hexdigest()


def fingerprint_task(task: Task) -> str:
    """Hash data, architecture and the code of the loss, but not the weights.

    The loss counts by name, bytecode and constants, and by those of the functions nested in
    it; what it reads from elsewhere (globals, closures) is not seen.
    """
    return hashlib.sha256("".join(fingerprint_parts(task).values()).encode()).hexdigest()


def fingerprint_parts(task: Task) -> dict[str, str]:
    """Hash a task's model, data and loss one by one, so that a difference can be named."""
    model = hashlib.sha256(str(task.model).encode())
    for name, parameter in task.model.named_parameters():
        shape = None if is_lazy(parameter) else tuple(parameter.shape)
        model.update(f"{name} {shape} {parameter.requires_grad}".encode())
    model.update(_source(type(task.model)))
    loss = hashlib.sha256()
    for part in (task.loss, task.batch_loss, task.potential):
        loss.update(_code_key(part).encode())
    return {
        "model": model.hexdigest(), "data": fingerprint_values(task.data), "loss": loss.hexdigest()
    }  # fmt: skip


def fingerprint_values(values: Any) -> str:
    """Hash a nest of tensors and functions, functions by their code."""
    digest = hashlib.sha256()
    leaves, structure = tree_flatten(values)
    digest.update(str(structure).encode())
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            _add_tensor(digest, leaf)
        else:
            digest.update(_code_key(leaf).encode())
    return digest.hexdigest()


def _settings_key(settings: Settings) -> str:
    values = settings.to_dict()
    values.pop("reasons")
    if values["only"] is None:
        values.pop("only")  # so that estimates made before there were parts are found again
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
