"""Built-in tasks: model, data, and training runs that write checkpoints."""

from collections.abc import Callable
from typing import Any

__all__ = ["builtin"]


def builtin(name: str) -> Callable[..., Any] | None:
    """Return the function that makes a built-in task, or None if there is none of that name."""
    if name == "modular-addition":
        from llc.tasks.modular_addition import task

        return task
    return None
