"""Finished pieces of a long comparison, each in a file named by what it is of."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llc.files import read_json, write_whole
from llc.trajectory.disk import writable

__all__ = ["Pieces"]

FOLDER = "basins"


class Pieces:
    """``basins/HASH.json`` in a run folder; without a folder, nothing is kept.

    Args:
        out: the run folder, or None.
        key: what all pieces share: fingerprints of task and data.

    Attributes:
        reused: how many were found finished.
    """

    def __init__(self, out: Path | None, key: str) -> None:
        self._out, self._key, self.reused = out, key, 0

    def get(self, what: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the piece of this description, made now unless it is there, whole."""
        text = json.dumps(what, sort_keys=True)
        mark = hashlib.sha256(f"{self._key}\n{text}".encode()).hexdigest()[:32]
        path = None if self._out is None else self._out / FOLDER / f"{mark}.json"
        found = _read(path)
        if found is not None:
            self.reused += 1
            return found
        found = make()
        if path is not None and self._out is not None:
            with writable(self._out):
                write_whole(path, json.dumps(found).encode())
        # As it will be read: a run that goes on gives the same bytes as one left alone.
        return json.loads(json.dumps(found))


def _read(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
