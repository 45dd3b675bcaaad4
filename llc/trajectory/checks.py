"""What cannot go together in a trace, told before anything is computed."""

from concurrent.futures import Executor
from pathlib import Path

from llc.errors import InputError
from llc.settings import Settings
from llc.trajectory.common import FROZEN
from llc.trajectory.sources import Source

__all__ = ["check", "check_stack"]


def check(
    stack: int,
    wanted: Settings,
    freeze: bool,
    workers: int,
    executor: Executor | None,
    shard: tuple[int, int] | None,
    follow: bool,
    follow_for: float | None,
    checkpoints: Source,
) -> None:
    """Refuse numbers out of range and choices that exclude each other; as `llc.trace`.

    Raises:
        InputError: one of them is given.
    """
    for name, number in (("stack", stack), ("workers", workers)):
        if isinstance(number, bool) or number != int(number) or number < 1:
            raise InputError(f"{name} is {number!r}, expected a whole number of at least 1")
    if executor is not None and workers > 1:
        raise InputError(f"executor and workers {workers} given, expected one of them: drop one")
    if shard is not None:
        i, count = shard
        if not 1 <= i <= count:
            raise InputError(f"shard is {i}/{count}, expected i/N with i from 1 to N, such as 1/2")
    if follow and shard is not None:
        raise InputError(
            "follow and shard given, expected one of them: machines may look at different moments"
        )
    if follow and not isinstance(checkpoints, str | Path):
        raise InputError(
            f"follow is given with a {type(checkpoints).__name__}, expected a folder or a pattern "
            "to look into: an iterator is followed without it"
        )
    if follow_for is not None and not (follow and follow_for > 0):
        raise InputError(
            f"follow_for is {follow_for!r}{'' if follow else ' without follow'}, expected a number "
            "of seconds above 0, beside follow"
        )
    if not freeze:
        check_stack(stack, wanted)


def check_stack(stack: int, settings: Settings) -> None:
    """Refuse a stack as long as anything follows each checkpoint by itself.

    Raises:
        InputError: step size, burn-in or draws are open.
    """
    missing = [name for name in FROZEN if getattr(settings, name) is None]
    if stack > 1 and missing:
        raise InputError(
            f"stack is {stack}, which needs step_size, burn_in and draws, but {missing[0]} is left "
            "open: give it, freeze it, or leave stack out"
        )
