"""A run folder: estimates kept with a fingerprint of everything that decides them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llc.archives import UNREADABLE, names_of
from llc.errors import InputError, brief
from llc.estimation import Estimate
from llc.files import read_json, write_whole
from llc.settings import Settings
from llc.trajectory.disk import writable
from llc.trajectory.kept import TRACES, KeptEstimate
from llc.trajectory.sameness import Witness

__all__ = ["Kept", "RunFolder"]


class Kept(NamedTuple):
    """A finished checkpoint: its estimate, the numbers beside it, and what made those."""

    estimate: Estimate
    metadata: dict[str, float]
    readings: str


class RunFolder:
    """``run.json``, ``estimates/STEP.json``, ``.npz`` and ``.fingerprint``, or ``.skipped``.

    Everything is written whole or not at all; a full disk is an `InputError`.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def marked(self, step: int) -> bool:
        """Whether there is a finished estimate, whatever it is of."""
        return self._file(step, ".fingerprint").is_file()

    def find(self, step: int, fingerprint: str) -> Kept | None:
        """Return what is kept of a step, or None if there is nothing with this fingerprint."""
        try:
            mark = read_json(self._file(step, ".fingerprint"))
            return self._read(step, mark) if mark["fingerprint"] == fingerprint else None
        except UNREADABLE:
            # Unfinished or foreign: computed anew.
            return None

    def keep(self, step: int, fingerprint: str, kept: Kept) -> Kept:
        """Save an estimate; the fingerprint last, so that a kill between files leaves no trace.

        Returns:
            The same, with the traces of the estimate left on disk.
        """
        path = self._file(step, ".json")
        with writable(self.folder):
            self._file(step, ".fingerprint").unlink(missing_ok=True)
            kept.estimate.save(path)
            self.annotate(step, fingerprint, kept)
        return kept._replace(estimate=KeptEstimate.of(kept.estimate, path))

    def annotate(self, step: int, fingerprint: str, kept: Kept) -> None:
        """Write a finished estimate's fingerprint and the numbers beside it; it is not skipped."""
        record = {
            "fingerprint": fingerprint, "readings": kept.readings, "metadata": kept.metadata,
        }  # fmt: skip
        with writable(self.folder):
            write_whole(self._file(step, ".fingerprint"), json.dumps(record).encode())
        self.take(step)

    def skip(self, step: int, reason: str) -> None:
        """Keep the sentence that says why a step could not be estimated.

        An estimate of before stays where it is, for a file that can be read again tomorrow.
        """
        with writable(self.folder):
            write_whole(self._file(step, ".skipped"), json.dumps(reason).encode())

    def take(self, step: int) -> None:
        """Count a finished step as finished, whatever was said of it before."""
        with writable(self.folder):
            self._file(step, ".skipped").unlink(missing_ok=True)

    def claim(self, witness: Witness, *, alone: bool) -> Witness:
        """Write what the task is that the folder is begun with, or return what was written before.

        What a run left that was refused, or killed before its first estimate, counts only where
        another may be at work now.

        Args:
            witness: of the task as it is here.
            alone: whether nobody else works on the folder.
        """
        path = self.folder / "task.json"
        content = json.dumps(witness.to_dict()).encode()
        with writable(self.folder):
            write_whole(path, content, new=not (alone and not self._is_begun()))
        found = self.witness()
        if found is None:
            with writable(self.folder):
                write_whole(path, content)
        return found or witness

    def witness(self) -> Witness | None:
        """Return what ``task.json`` says the task was, or None if nothing can be read there."""
        try:
            return Witness.from_dict(read_json(self.folder / "task.json"))
        except UNREADABLE:
            return None

    def unclaim(self) -> None:
        """Forget what the task is, unless something was made of it."""
        if not self._is_begun():
            (self.folder / "task.json").unlink(missing_ok=True)

    def _is_begun(self) -> bool:
        return (self.folder / "run.json").exists()

    def record(self) -> dict[str, Any] | None:
        """Return what ``run.json`` holds, or None if there is none.

        Raises:
            InputError: it is there, but cannot be read.
        """
        path = self.folder / "run.json"
        try:
            found = read_json(path)
            Settings.from_dict(found["settings"])
            str(found["task"]), [int(step) for step in found["steps"] or ()]
            return found
        except FileNotFoundError:
            return None
        except UNREADABLE as error:
            raise InputError(
                f"{path} is not what rlct trace writes ({brief(repr(error))}): give another "
                "folder, or remove "
                "this file, after which estimates are reused where they fit"
            ) from error

    def describe(self, record: Mapping[str, Any], *, first: bool = False) -> bool:
        """Write ``run.json``; with ``first`` only if there is none yet, and tell whether so."""
        path = self.folder / "run.json"
        content = json.dumps(record, indent=1).encode()
        with writable(self.folder):
            if not first:
                write_whole(path, content)
                return True
            write_whole(path, content, new=True)
        return path.read_bytes() == content

    def points(self, steps: Sequence[int] | None) -> Iterator[tuple[int, Kept]]:
        """Yield what is finished, by step; of these steps alone, if some are given.

        Raises:
            InputError: a finished estimate cannot be read.
        """
        wanted = None if steps is None else set(steps)
        for path in self._files(".fingerprint"):
            step = int(path.stem)
            out = self._file(step, ".skipped").exists()
            if out or (wanted is not None and step not in wanted):
                continue
            try:
                kept = self._read(step, read_json(path))
            except UNREADABLE as error:
                raise InputError(
                    f"step {step} of {self.folder} cannot be read ({brief(repr(error))}): run "
                    "the same rlct "
                    "trace again, which computes it anew"
                ) from error
            yield step, kept

    def skipped(self, steps: Sequence[int] | None) -> dict[int, str]:
        """Return step → sentence for what could not be estimated."""
        wanted = None if steps is None else set(steps)
        found = {int(path.stem): path for path in self._files(".skipped")}
        return {
            step: read_json(path)
            for step, path in found.items()
            if wanted is None or step in wanted
        }

    def _read(self, step: int, mark: Mapping[str, Any]) -> Kept:
        path = self._file(step, ".json")
        estimate = Estimate.from_dict(read_json(path))
        # Opened, not read: a file that was cut short has lost its table of contents.
        names = names_of(path.with_suffix(".npz"))
        if names != set(TRACES):
            raise ValueError(f"{path.stem}.npz holds {sorted(names)}")
        metadata = {str(name): float(value) for name, value in mark["metadata"].items()}
        return Kept(KeptEstimate.of(estimate, path), metadata, str(mark["readings"]))

    def _files(self, ending: str) -> list[Path]:
        found = (self.folder / "estimates").glob(f"[0-9]*{ending}")
        return sorted(found, key=lambda path: int(path.stem))

    def _file(self, step: int, ending: str) -> Path:
        return self.folder / "estimates" / f"{step:07d}{ending}"
