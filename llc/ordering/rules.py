"""The ways in which a checkpoint can say its training step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llc import formats
from llc.errors import InputError
from llc.ordering.known import Known
from llc.ordering.names import EPOCH, WORDS, after, numbers_in

__all__ = ["ONE", "Rule", "rules_of", "rules_of_word"]

PER_EPOCH = ("steps_per_epoch", "iters_per_epoch", "batches_per_epoch")
ONE = "name:one"


@dataclass(frozen=True)
class Rule:
    """A way to read a step.

    Attributes:
        label: what messages call it.
        read: from a checkpoint to its step; None where it does not say.
        kind: ``file``, ``file:epoch``, ``name``, ``name:epoch``, or `ONE`.
    """

    label: str
    read: Callable[[Path], int | None]
    kind: str

    def values(self, paths: Sequence[Path]) -> list[int | None]:
        """Read every checkpoint."""
        return [self.read(path) for path in paths]

    def repeats(self, paths: Sequence[Path]) -> bool:
        """Whether two checkpoints have one step."""
        return len(set(self.values(paths))) < len(paths)

    def contradicts(self, other: "Rule", paths: Sequence[Path]) -> bool:
        """Whether another rule puts any two checkpoints in the opposite order."""
        pairs = sorted(zip(self.values(paths), other.values(paths), strict=True))  # pyrefly: ignore
        seconds = [second for _, second in pairs]
        return seconds != sorted(seconds)  # pyrefly: ignore


def rules_of(known: Known, paths: Sequence[Path]) -> list[Rule]:
    """Return every rule, the most telling first; many are silent about some of the checkpoints."""
    return [
        *(_of_file(known, key, "file") for key in formats.STEPS),
        *(r for w in ("step", "iteration", "update") for r in _of_word(known, paths, w)),
        *(_of_epochs(known, key) for key in PER_EPOCH),
        *(_of_file(known, key, "file:epoch") for key in formats.EPOCHS),
        *(r for w in (EPOCH, "checkpoint") for r in _of_word(known, paths, w)),
        *_of_the_one(known, paths),
    ]


def rules_of_word(known: Known, paths: Sequence[Path], asked: str) -> list[Rule]:
    """Return the rules that ``step_from`` names, other than ``file`` and ``name``.

    Raises:
        InputError: it names none.
    """
    place, colon, word = asked.rpartition(":")
    if not word or (colon and place not in ("file", "name")):
        raise InputError(
            f"step_from is {asked!r}, expected file, name, a key of the files such as global_step, "
            "a word of the names such as epoch, or k for the k-th number of a name"
        )
    rules = [] if place == "name" else [_of_file(known, word, "file")]
    if place != "file" and word.isdecimal():
        nth = int(word) - 1

        def read(path: Path) -> int | None:
            found = numbers_in(known.text(path))
            return found[nth].value if 0 <= nth < len(found) else None

        rules.append(Rule(f"number {word} in the name", read, "name"))
    elif place != "file":
        rules += _of_word(known, paths, word)
    return rules


def _of_file(known: Known, key: str, kind: str) -> Rule:
    return Rule(f"{key} in the file", lambda path: _whole(known.said(path, key)), kind)


def _of_epochs(known: Known, key: str) -> Rule:
    def read(path: Path) -> int | None:
        epoch, steps = known.said(path, EPOCH), known.said(path, key)
        return None if epoch is None or steps is None else _whole(epoch * steps)

    return Rule(f"epoch times {key} in the file", read, "file:epoch")


def _of_word(known: Known, paths: Sequence[Path], word: str) -> list[Rule]:
    """One rule for each place of a word that stands in a name several times."""
    fewest = min(len(after(known.text(path), word)) for path in paths)

    def read(path: Path, place: int) -> int | None:
        found = after(known.text(path), word)
        return found[place] if place < len(found) else None

    kind = "name:epoch" if word == EPOCH else "name"
    return [
        Rule(f"{word!r} in the name", lambda path, k=k: read(path, k), kind)
        for k in range(max(1, fewest))
    ]


def _of_the_one(known: Known, paths: Sequence[Path]) -> list[Rule]:
    """The number that varies, where all names have as many and one alone varies."""

    def usable(path: Path) -> list[int | None]:
        return [number.value for number in numbers_in(known.text(path)) if number.usable]

    every = [usable(path) for path in paths]
    count = len(every[0])
    # A step of some and an epoch of others is never one number.
    worded = [sum(bool(after(known.text(path), word)) for path in paths) for word in WORDS]
    if any(len(each) != count for each in every) or not set(worded) <= {0, len(paths)}:
        return []
    varying = [k for k, column in enumerate(zip(*every, strict=True)) if len(set(column)) > 1]
    places = varying or list(range(count))
    if len(places) != 1:
        return []

    def read(path: Path) -> int | None:
        found = usable(path)
        return found[places[0]] if len(found) == count else None

    return [Rule("the number in the name", read, ONE)]


def _whole(value: float | None) -> int | None:
    return int(value) if value is not None and value == value // 1 and 0 <= value < 2**63 else None
