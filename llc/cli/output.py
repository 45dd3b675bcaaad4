"""Standard output kept for JSON: whatever a user's code prints goes to standard error."""

import contextlib
import ctypes
import json
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

__all__ = ["kept_for_json", "show"]

OUT, ERR = 1, 2
_kept: list["_Kept"] = []


class _Kept:
    """Standard output while it is kept, and where the descriptor led before, if there is one."""

    def __init__(self, stream: TextIO, descriptor: int | None) -> None:
        self.stream, self.descriptor = stream, descriptor

    @contextlib.contextmanager
    def open(self) -> Iterator[TextIO]:
        """Give standard output back for a while."""
        if self.descriptor is None:
            yield self.stream
            return
        _flush()
        os.dup2(self.descriptor, OUT)
        try:
            yield self.stream
            self.stream.flush()
        except BrokenPipeError:
            # Nothing of it may be written at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), OUT)
            raise
        else:
            _point_to_errors()


@contextlib.contextmanager
def kept_for_json(wanted: bool, *, to_the_end: bool) -> Iterator[None]:
    """Let nothing but `show` write on standard output, neither Python, nor C, nor a process begun.

    Args:
        wanted: else nothing is done.
        to_the_end: also of what is printed until this process ends, as by functions called at exit.
    """
    if not wanted:
        yield
        return
    stream = sys.stdout
    stream.flush()
    kept = _Kept(stream, _copied())
    if kept.descriptor is not None:
        _point_to_errors()
    sys.stdout = sys.stderr
    _kept.append(kept)
    try:
        yield
    except BaseException:
        sys.stdout = stream
        raise
    finally:
        _kept.pop()
        if not to_the_end:
            sys.stdout = stream
            if kept.descriptor is not None:
                _flush()
                os.dup2(kept.descriptor, OUT)
                os.close(kept.descriptor)


def show(record: Any, indent: int | None = 1) -> None:
    """Print JSON on standard output; only what has no nan and no infinity is JSON."""
    text = json.dumps(record, indent=indent, allow_nan=False)
    with _kept[-1].open() if _kept else contextlib.nullcontext(sys.stdout) as stream:
        print(text, file=stream)


def _copied() -> int | None:
    """Copy the descriptor, if there is one, but not to where a closed standard error was."""
    try:
        copy = os.dup(OUT)
    except OSError:
        return None
    if copy == ERR:
        copy = os.dup(OUT)
        os.close(ERR)
    return copy


def _point_to_errors() -> None:
    try:
        os.dup2(ERR, OUT)
    except OSError:  # standard error is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), OUT)


def _flush() -> None:
    """Write out what C code has printed so far, which its library may hold back."""
    with contextlib.suppress(Exception):
        ctypes.CDLL(None).fflush(None)
