"""What decides a task's loss beside the weights of a checkpoint, piece by piece, under names."""

import functools
import inspect
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_flatten_with_path

from llc.task import Task

__all__ = ["data_of", "kept_of", "state_of"]

DEPTH = 6
MOST = 10_000
BARE = frozenset(vars(nn.Module()))
# Old weight normalisation and pruning compute these from parameters, which checkpoints bring.
SOURCES = ("_g", "_v", "_orig", "_bar")
Found = Iterator[tuple[str, Any]]


def data_of(task: Task) -> Found:
    """Yield the data and the readings' data by name."""
    yield from _data(task.data, pair=task.loss is not None, of="")
    for name, what in (task.readings or {}).items():
        if not callable(what):
            yield from _data(what, pair=True, of=f" of the reading {name!r}")


def kept_of(model: nn.Module) -> dict[str, Tensor]:
    """Return what a checkpoint may bring, or may leave as it is: buffers and frozen parameters.

    Names are those of the state dict.
    """
    hidden = _not_saved(model)
    found = {n: b for n, b in model.named_buffers() if n not in hidden}
    frozen = {n: p for n, p in model.named_parameters() if not p.requires_grad}
    return {name: value for name, value in (found | frozen).items() if _has_values(value)}


def state_of(task: Task) -> Found:
    """Yield tensors and numbers that no checkpoint brings.

    Buffers that are not saved, tensors that are plain attributes of modules, and what the loss and
    the readings' functions read: from closures, globals, arguments held by ``partial``, attributes.
    """
    registered = {id(task.model), *map(id, task.model.modules())}
    for kind, name, value in _module_state(task.model):
        yield f"{kind} {name!r} of the model", value
    reach = _Reach(registered, _storages(task.model))
    functions = [(f, "the loss") for f in (task.loss, task.batch_loss, task.potential)]
    functions += [(f, f"the reading {n!r}") for n, f in (task.readings or {}).items()]
    for function, who in functions:
        if callable(function):
            yield from ((f"value {name} that {who} reads", v) for name, v in reach.of(function))


def _data(data: Any, *, pair: bool, of: str) -> Found:
    leaves, _ = tree_flatten_with_path(data)
    for path, leaf in leaves:
        place = keystr(path)
        name = f"data{place}"
        if pair and len(leaves) == 2:
            name = "inputs" if place == "[0]" else "targets"
        yield f"{name}{of}", leaf


def _not_saved(model: nn.Module) -> set[str]:
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        for name in module._non_persistent_buffers_set
    }


def _module_state(model: nn.Module) -> Iterator[tuple[str, str, Any]]:
    hidden, storages = _not_saved(model), _storages(model)
    for name, buffer in model.named_buffers():
        if name in hidden and _has_values(buffer):
            yield "buffer", name, buffer
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            derived = any(name + end in module._parameters for end in SOURCES)
            if name in BARE or derived:
                continue
            whole = f"{prefix}.{name}" if prefix else name
            if isinstance(value, Tensor | np.ndarray | list | tuple | dict):
                reach = _Reach(set(), storages, alone=True)
                inside = [each for _, each in reach.walk(whole, value, 0)]
                arrays = [each for each in inside if isinstance(each, Tensor | np.ndarray)]
                yield from (("attribute", whole, each) for each in arrays)
                if len(inside) > len(arrays):
                    numbers = [each for each in inside if not isinstance(each, Tensor | np.ndarray)]
                    yield "attribute", whole, numbers


def _storages(model: nn.Module) -> set[int]:
    """Where a model's own parameters and buffers lie, so that other names of them are known."""
    own = (*model.parameters(), *model.buffers())
    return {place for value in own if (place := _place(value))}


def _place(value: Tensor) -> int:
    try:
        return value.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError, ValueError):  # lazy, sparse or quantised
        return 0


def _has_values(value: Any) -> bool:
    lazy = nn.parameter.UninitializedParameter | nn.parameter.UninitializedBuffer
    return not isinstance(value, lazy) and not value.is_meta


class _Reach:
    """Follows what a function holds and reads; nothing twice, and not the task's own model.

    Args:
        known: ids of objects that are somebody else's affair.
        storages: of tensors that are.
        alone: stop at functions and objects, so that only containers are followed.
    """

    def __init__(self, known: set[int], storages: set[int], *, alone: bool = False) -> None:
        self._seen, self._storages, self._alone, self._count = set(known), storages, alone, 0

    def of(self, function: Any) -> Found:
        """Yield what a function or a callable object reads, under the names that it has there."""
        yield from self.walk("", function, 0)

    def walk(self, name: str, value: Any, depth: int) -> Found:
        """Yield tensors, arrays and numbers in a value."""
        self._count += 1
        if depth > DEPTH or self._count > MOST:
            return
        if isinstance(value, bool | int | float | complex | np.number):
            yield name, value
        elif isinstance(value, Tensor):
            # What needs a gradient, and is no weight itself, comes from weights.
            own = isinstance(value, nn.Parameter) or not value.requires_grad
            if own and _has_values(value) and _place(value) not in self._storages:
                yield name, value
        elif isinstance(value, np.ndarray):
            yield name, value
        elif id(value) not in self._seen:
            self._seen.add(id(value))
            yield from self._inside(name, value, depth + 1)

    def _inside(self, name: str, value: Any, depth: int) -> Found:
        if isinstance(value, dict):
            for key, each in list(value.items()):
                yield from self.walk(f"{name}[{key!r}]" if name else repr(key), each, depth)
        elif isinstance(value, list | tuple):
            for each in value:
                yield from self.walk(name, each, depth)
        elif isinstance(value, nn.Module):
            yield from self._module(name, value)
        elif not self._alone:
            yield from self._code(name, value, depth)

    def _module(self, name: str, module: nn.Module) -> Found:
        if _storages(module) & self._storages:
            return  # the model that is sampled, or a part of it
        own = (*module.named_parameters(), *module.named_buffers())
        inside = [(key, each) for key, each in own if _has_values(each)]
        inside += [(key, each) for kind, key, each in _module_state(module) if kind != "buffer"]
        yield from ((f"{name}.{key}" if name else repr(key), each) for key, each in inside)

    def _code(self, name: str, value: Any, depth: int) -> Found:
        """What functions, and objects that hold some, bring along."""
        if isinstance(value, functools.partial):
            parts: tuple[Any, ...] = (value.func, value.args, value.keywords)
        elif isinstance(value, types.MethodType):
            parts = (value.__func__, value.__self__)
        elif isinstance(value, types.FunctionType):
            parts = ()
            yield from self._function(value, depth)
        elif isinstance(value, type | types.ModuleType | types.BuiltinFunctionType):
            parts = ()
        else:
            parts = (vars(type(value)).get("__call__"),)
            yield from self._object(name, value, depth)
        for each in parts:
            yield from self.walk(name, each, depth)

    def _function(self, function: types.FunctionType, depth: int) -> Found:
        if _is_library(function.__module__):
            return
        for key, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=False
        ):
            try:
                yield from self.walk(repr(key), cell.cell_contents, depth)
            except ValueError:  # not filled yet
                continue
        for each in (function.__defaults__, function.__kwdefaults__):
            yield from self.walk(f"a default of {function.__name__}", each or (), depth)
        for key in sorted(_names(function.__code__)):
            value = function.__globals__.get(key)
            if inspect.isfunction(value):
                yield from self.walk(repr(key), value, depth)
            elif isinstance(value, Tensor | np.ndarray | nn.Module | list | tuple | dict):
                yield from _arrays(self.walk(repr(key), value, depth))

    def _object(self, name: str, value: Any, depth: int) -> Found:
        """Tensors among the attributes of an object."""
        if _is_library(type(value).__module__):
            return
        for key, each in list(getattr(value, "__dict__", {}).items()):
            if isinstance(each, Tensor | np.ndarray | nn.Module | list | tuple | dict):
                inside = f"{name}.{key}" if name else repr(key)
                yield from _arrays(self.walk(inside, each, depth))


def _arrays(found: Found) -> Found:
    """Leave out bare numbers: of a module or an object they are often counters and clocks."""
    yield from ((name, v) for name, v in found if isinstance(v, Tensor | np.ndarray))


def _is_library(module: str | None) -> bool:
    return (module or "").partition(".")[0] in ("torch", "llc", "numpy")


def _names(code: types.CodeType) -> set[str]:
    found = set(code.co_names)
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            found |= _names(each)
    return found
