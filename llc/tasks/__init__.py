"""Built-in tasks: model, data, and training runs that write checkpoints."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["BUILTIN", "builtin"]

BUILTIN = (
    "modular-addition",
    "modular-addition-transformer",
    "linear-net",
    "superposition",
    "in-context-regression",
    "induction-heads",
)


def builtin(name: str) -> Callable[..., Any] | None:
    """Return the function that makes a built-in task, or None if there is none of that name."""
    if name not in BUILTIN:
        return None
    return import_module(f"llc.tasks.{name.replace('-', '_')}").task
