"""A run folder among several processes, and on a disk that may be full."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llc.errors import InputError

__all__ = ["held", "writable"]

FULL = (errno.ENOSPC, errno.EDQUOT)
BUSY = (errno.EWOULDBLOCK, errno.EACCES)
HALF = re.compile(r"\.(run\.json|trajectory\.csv|\d{7,}\.\w+)\.\w+")


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Turn what the system says while a run folder is written into one sentence.

    Raises:
        InputError: the disk is full, the folder may not be written, or the like.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or type(error).__name__
        advice = "make room there" if error.errno in FULL else "give a folder that can be written"
        raise InputError(
            f"{folder} cannot be written ({why}): {advice}; what is finished is kept, and the same "
            "command goes on from it"
        ) from error


@contextmanager
def held(folder: Path, *, shared: bool) -> Iterator[None]:
    """Hold a run folder: shards together, any other trace alone; the system lets go at a kill.

    Raises:
        InputError: another trace holds it, or it cannot be written.
    """
    with writable(folder):
        if folder.exists() and not folder.is_dir():
            raise InputError(f"out is {folder}, a file; expected a folder, which may not exist yet")
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(handle, folder, shared)
        if not shared:
            _tidy(folder)
        yield
    finally:
        os.close(handle)


def _tidy(folder: Path) -> None:
    """Remove what a process left that was killed while it wrote."""
    for path in (*folder.glob(".*"), *(folder / "estimates").glob(".*")):
        if HALF.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _lock(handle: int, folder: Path, shared: bool) -> None:
    try:
        import fcntl
    except ImportError:  # not on this system, where two traces at once are the user's own affair
        return
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in BUSY:
            return  # a file system without locks
        raise InputError(
            f"{folder} is being written by another rlct trace: wait for it, or let each take a "
            "part of the checkpoints by --shard 1/2 and --shard 2/2"
        ) from error
