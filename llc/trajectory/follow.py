"""Checkpoints picked up as a training run writes them."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llc.errors import InputError
from llc.formats import LOG
from llc.ordering import Ordering
from llc.trajectory.given import narrowed
from llc.trajectory.sources import Item, ordering, paths_of

__all__ = ["PATIENCE", "POLL", "follow"]

POLL = 1.0
PATIENCE = 60.0


@dataclass
class _Seen:
    """A file, how it looked last, and since when it has looked so."""

    look: tuple[int, int]
    since: float


def follow(
    source: str | Path,
    seconds: float | None,
    clock: Callable[[], float] = time.monotonic,
    step_from: str | None = None,
    entry: str | None = None,
    drop: str | Sequence[str] = (),
) -> Iterator[Item | None]:
    """Yield checkpoints as they come to be, and None whenever there is nothing new to take.

    A file is taken once it has not changed between two looks and can be read; one that cannot is
    looked at again until it has not changed for a minute (or ``seconds``, if shorter), and then
    taken, for the reader to say what is wrong with it.

    Args:
        source: a folder or a pattern; neither has to exist yet.
        seconds: end after so long without a new file; None never ends.
        clock: seconds that go by.
        step_from: where files say their steps, as for `llc.trace`; all go by the rule that serves
            the first of them.
        entry: which state dict is meant, as for `llc.load_weights`.
        drop: patterns of names that are left out, as for `llc.load_weights`.

    Raises:
        InputError: a file without a step, or two of the same step.
    """
    order = ordering(str(source), step_from)
    steps: dict[int, Path] = {}
    seen: dict[Path, _Seen] = {}
    taken: set[Path] = set()
    last = clock()
    patience = PATIENCE if seconds is None else min(PATIENCE, seconds)
    while True:
        ready: list[Path] = []
        now = clock()
        for path in paths_of(source, may_be_empty=True):
            if path in taken:
                continue
            if order.is_rewritten(path):
                # Written again and again; what it holds comes under a name of its own.
                LOG.info("%s is left out, since a training run writes it anew", path.name)
                taken.add(path)
                continue
            look = _look(path)
            if look is None or path not in seen or seen[path].look != look:
                if look is not None:
                    seen[path] = _Seen(look, now)
                    last = now
                continue
            if now - seen[path].since > patience or _readable(
                *narrowed([Item(0, path)], entry, drop)
            ):
                ready.append(path)
        for step, path in order.steps(ready):
            if _is_new(order, steps, step, path):
                steps[step] = path
                yield from narrowed([Item(step, path)], entry, drop)
        for path in ready:
            taken.add(path)
            seen.pop(path, None)
        waiting = bool(seen)
        if seconds is not None and not waiting and clock() - last >= seconds:
            return
        if not ready:
            yield None


def _is_new(order: Ordering, steps: dict[int, Path], step: int, path: Path) -> bool:
    """Whether a checkpoint was not taken before; other weights of one step are refused."""
    if step in steps and not order.alike(steps[step], path):
        raise InputError(
            f"{steps[step].name} and {path.name} are both step {step}, and their weights differ: "
            "keep one of them"
        )
    return step not in steps


def _look(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _readable(item: Item) -> bool:
    try:
        item.read()
    except InputError:
        return False
    return True
