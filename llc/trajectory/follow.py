"""Checkpoints picked up as a training run writes them."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llc.errors import InputError
from llc.trajectory.given import narrowed
from llc.trajectory.sources import Item, items_of_paths, paths_of

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
        entry: which state dict is meant, as for `llc.load_weights`.
        drop: patterns of names that are left out, as for `llc.load_weights`.

    Raises:
        InputError: a file without a step in its name, or two of the same step.
    """
    seen: dict[Path, _Seen] = {}
    taken: set[Path] = set()
    last = clock()
    patience = PATIENCE if seconds is None else min(PATIENCE, seconds)
    while True:
        ready: list[Item] = []
        now = clock()
        items = items_of_paths(paths_of(source, may_be_empty=True), str(source))
        for item in narrowed(items, entry, drop):
            path = item.path
            assert path is not None
            if path in taken:
                continue
            look = _look(path)
            if look is None or path not in seen or seen[path].look != look:
                if look is not None:
                    seen[path] = _Seen(look, now)
                    last = now
                continue
            if now - seen[path].since > patience or _readable(item):
                ready.append(item)
        for item in ready:
            assert item.path is not None
            taken.add(item.path)
            seen.pop(item.path, None)
            yield item
        waiting = bool(seen)
        if seconds is not None and not waiting and clock() - last >= seconds:
            return
        if not ready:
            yield None


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
