"""From the text after ``--task`` to an `llc.Task`."""

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from functools import partial
from inspect import isfunction
from pathlib import Path
from types import ModuleType
from typing import Any

from llc.errors import InputError, brief, some
from llc.language import hub
from llc.task import Task
from llc.tasks import BUILTIN, builtin

__all__ = ["arguments_of", "load_task"]


def arguments_of(options: Any) -> dict[str, Any]:
    """Return what flags beside ``--task`` say about a language model's data.

    Raises:
        InputError: they are given with another kind of task, or data are missing.
    """
    given = {name: getattr(options, name) for name in ("data", "length", "weighting")}
    given = {name: value for name, value in given.items() if value is not None}
    if hub.is_named(options.task):
        if "data" not in given:
            raise InputError(
                f"--task {options.task} is a language model without data: give tokens or text as "
                "--data, for instance --data tokens.npy"
            )
        place = Path(given["data"]).expanduser()
        # Whole, since run folders are worked on from elsewhere too.
        return {**given, "data": str(place.absolute())}
    if given:
        raise InputError(
            f"--{next(iter(given))} is given with --task {options.task}, expected it with a "
            "language model, --task hf:NAME or hf:FOLDER, alone: other tasks bring their own data"
        )
    return {}


def load_task(name: str, arguments: Mapping[str, Any] | None = None) -> Task:
    """Call the function named ``file.py:function``, ``module:function`` or a built-in.

    Args:
        name: of the function.
        arguments: of the call; a task named on a command line takes none.

    Raises:
        InputError: nothing of that name, the call failed, or it returned no `llc.Task`.
    """
    if hub.is_named(name):
        return _language_model(name, arguments or {})
    function = builtin(name)
    if function is None:
        place, colon, attribute = name.rpartition(":")
        if not colon or not place or not attribute:
            raise InputError(
                f"--task is {name!r}, expected file.py:function, module:function, hf:NAME, or one "
                f"of {', '.join(BUILTIN)}"
            )
        module = _from_file(Path(place)) if place.endswith(".py") else _from_name(place)
        function = getattr(module, attribute, None)
        if isinstance(function, Task):
            return function
        if not callable(function):
            # Classes would be those that it imports, for the most part.
            known = [k for k, v in vars(module).items() if isfunction(v) and not k.startswith("_")]
            raise InputError(
                f"{place} has no function {attribute!r}, expected one that returns an llc.Task; "
                f"it has {some(known, 8) or 'none'}"
            )
    task = _call(partial(function, **(arguments or {})), name)
    if not isinstance(task, Task):
        raise InputError(
            f"{name} returned a {type(task).__name__}, expected an llc.Task: end it with "
            "return llc.Task(model, data, loss)"
        )
    return task


def _language_model(name: str, arguments: Mapping[str, Any]) -> Task:
    from llc.language import huggingface

    if "data" not in arguments:
        raise InputError(
            f"--task {name} is a language model, which needs data: write a file.py:function that "
            "returns llc.language.huggingface.task(name, data)"
        )
    return huggingface.task(name, **arguments)


def _call(function: Any, name: str) -> Any:
    try:
        return function()
    except InputError:
        raise
    except (Exception, SystemExit, GeneratorExit) as error:
        raise InputError(
            f"{name} failed with {type(error).__name__}: {brief(error)}; it is called without "
            "arguments "
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
    except (Exception, SystemExit, GeneratorExit) as error:
        raise InputError(
            f"{path} cannot be loaded, {type(error).__name__}: {brief(error)} (--debug shows the "
            "traceback)"
        ) from error
    return module


def _from_name(name: str) -> ModuleType:
    sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit, GeneratorExit) as error:
        raise InputError(
            f"module {name} cannot be imported, {type(error).__name__}: {brief(error)}; for a "
            "file write "
            f"{name}.py:function"
        ) from error
