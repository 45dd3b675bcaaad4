"""Fingerprints of everything that decides an estimate: weights, data, model, loss, settings."""

import functools
import hashlib
import inspect
import json
import re
import types
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

import llc
from llc.settings import Settings
from llc.task import Task

__all__ = [
    "add_tensor", "architecture", "code_key", "fingerprint_parts", "fingerprint_task",
    "fingerprint_values", "fingerprint_weights", "without_addresses",
]  # fmt: skip


def fingerprint_weights(weights: Mapping[str, Tensor], task: str, settings: Settings) -> str:
    """Hash weights together with a task's fingerprint, the settings and our version."""
    digest = hashlib.sha256(f"{llc.__version__}\n{task}\n{_settings_key(settings)}".encode())
    for name in sorted(weights):
        digest.update(name.encode())
        if isinstance(weights[name], Tensor):
            add_tensor(digest, weights[name])
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
    model = hashlib.sha256(architecture(task.model).encode())
    model.update(_source(type(task.model)))
    loss = hashlib.sha256()
    for part in (task.loss, task.batch_loss, task.potential):
        loss.update(code_key(part).encode())
    return {
        "model": model.hexdigest(), "data": fingerprint_values(task.data), "loss": loss.hexdigest()
    }  # fmt: skip


def architecture(model: torch.nn.Module) -> str:
    """Describe a model by its modules and by the names, shapes and kinds of its parameters."""
    shapes = [
        f"{name} {_shape(parameter)} {parameter.requires_grad}"
        for name, parameter in model.named_parameters()
    ]
    return without_addresses(str(model)) + "".join(shapes)


def _shape(parameter: Tensor) -> tuple[int, ...] | None:
    lazy = isinstance(parameter, torch.nn.parameter.UninitializedParameter)
    return None if lazy else tuple(parameter.shape)


def fingerprint_values(values: Any) -> str:
    """Hash a nest of tensors and functions, functions by their code."""
    digest = hashlib.sha256()
    leaves, structure = tree_flatten(values)
    digest.update(str(structure).encode())
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            add_tensor(digest, leaf)
        else:
            digest.update(code_key(leaf).encode())
    return digest.hexdigest()


def _settings_key(settings: Settings) -> str:
    values = settings.to_dict()
    values.pop("reasons")
    if values["only"] is None:
        values.pop("only")  # so that estimates made before there were parts are found again
    return json.dumps(values, sort_keys=True)


def add_tensor(digest: Any, tensor: Tensor) -> None:
    """Add a tensor's kind, shape and bytes to a digest."""
    digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    for part in _strided(tensor.detach().cpu()):
        # Viewed as bytes, since numpy has no bfloat16.
        digest.update(part.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def _strided(tensor: Tensor) -> list[Tensor]:
    """Take a tensor of any layout apart into such as can be read as bytes."""
    if tensor.is_quantized:
        return [tensor.int_repr(), tensor.dequantize()]
    if tensor.is_nested:
        return [part for each in tensor.unbind() for part in _strided(each)]
    if tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce()
        return [tensor.indices(), *_strided(tensor.values())]
    return [tensor if tensor.layout == torch.strided else tensor.to_dense()]


def _source(kind: type) -> bytes:
    try:
        return inspect.getsource(kind).encode()
    except (OSError, TypeError):
        return kind.__qualname__.encode()


def code_key(function: Any) -> str:
    """Describe a function by what it does; never by its address, which changes between runs."""
    if isinstance(function, functools.partial):
        inside = sorted(function.keywords.items())
        held = without_addresses(f"{function.args} {inside}")
        return f"partial {code_key(function.func)} {held}"
    code = getattr(function, "__code__", None)
    if code is not None:
        return f"{function.__qualname__} {_code_text(code)}"
    if isinstance(function, torch.nn.Module):
        return f"{function} {_source(type(function)).decode()}"
    if callable(function):
        name = getattr(function, "__qualname__", None) or type(function).__qualname__
        call = getattr(type(function).__call__, "__code__", None)
        return f"{name} {'' if call is None else _code_text(call)}"
    return without_addresses(repr(function))


def without_addresses(text: str) -> str:
    """Take addresses out of what objects say of themselves, which change from run to run."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _code_text(code: types.CodeType) -> str:
    return f"{code.co_code.hex()} {code.co_names} {[_constant(c) for c in code.co_consts]}"


def _constant(value: Any) -> str:
    if isinstance(value, types.CodeType):
        return _code_text(value)
    if isinstance(value, frozenset):
        return repr(sorted(map(repr, value)))
    return repr(value)
