"""From the text after ``--task`` to an `llc.Task`."""

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from llc.errors import InputError
from llc.task import Task
from llc.tasks import BUILTIN, builtin

__all__ = ["load_task"]


def load_task(name: str, arguments: Mapping[str, Any] | None = None) -> Task:
    """Call the function named ``file.py:function``, ``module:function`` or a built-in.

    Args:
        name: of the function.
        arguments: of the call; a task named on a command line takes none.

    Raises:
        InputError: nothing of that name, the call failed, or it returned no `llc.Task`.
    """
    function = builtin(name)
    if function is None:
        place, colon, attribute = name.rpartition(":")
        if not colon or not place or not attribute:
            raise InputError(
                f"--task is {name!r}, expected file.py:function, module:function, or one of "
                f"{', '.join(BUILTIN)}"
            )
        module = _from_file(Path(place)) if place.endswith(".py") else _from_name(place)
        function = getattr(module, attribute, None)
        if not callable(function):
            known = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
            raise InputError(
                f"{place} has no function {attribute!r}, expected one that returns an llc.Task; "
                f"it has {', '.join(known[:8]) or 'none'}"
            )
    task = _call(partial(function, **(arguments or {})), name)
    if not isinstance(task, Task):
        raise InputError(
            f"{name} returned a {type(task).__name__}, expected an llc.Task: end it with "
            "return llc.Task(model, data, loss)"
        )
    return task


def _call(function: Any, name: str) -> Any:
    try:
        return function()
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{name} failed with {type(error).__name__}: {error}; it is called without arguments "
            "and must return an llc.Task (--debug shows the traceback)"
        ) from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"{path} does not exist, expected the file of --task file.py:function")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # As for a script: its neighbours can be imported, and its classes found by name.
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(
            f"{path} cannot be loaded, {type(error).__name__}: {error} (--debug shows the "
            "traceback)"
        ) from error
    return module


def _from_name(name: str) -> ModuleType:
    sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise InputError(
            f"module {name} cannot be imported, {type(error).__name__}: {error}; for a file write "
            f"{name}.py:function"
        ) from error
