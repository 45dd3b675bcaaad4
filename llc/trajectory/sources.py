"""Where checkpoints come from: a folder, a pattern, a list, or something read as it comes."""

import glob
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from llc.checkpoints import SUFFIXES, Checkpoint, load_weights, read_checkpoint
from llc.errors import InputError
from llc.formats import (
    LOG,
    checkpoints_in,
    dropped,
    find_state_dict,
    is_checkpoint,
    is_model_folder,
)
from llc.language import hub
from llc.ordering import Ordering

__all__ = [
    "Item", "Source", "as_items", "coarse_to_fine", "is_lazy", "items_of_paths", "ordering",
    "paths_of",
]  # fmt: skip

Weights = Mapping[str, Tensor]
Source = (
    str
    | Path
    | Mapping[int, Weights]
    | Iterable[Checkpoint | str | Path | tuple[int, Weights] | tuple[int, Weights, Any]]
)
MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Item:
    """One checkpoint to be estimated: a file, or weights in hand.

    Attributes:
        step: training step.
        path: the file; None where the weights are in hand.
        weights: in hand; None where there is a file.
        metadata: numbers known beside those that the file holds.
        entry: which state dict is meant, as for `llc.load_weights`.
        drop: patterns of names that are left out, as for `llc.load_weights`.
    """

    step: int
    path: Path | None = None
    weights: Weights | None = None
    metadata: Mapping[str, float] = field(default_factory=dict)
    entry: str | None = None
    drop: tuple[str, ...] = ()

    def read(self) -> tuple[Weights, dict[str, float]]:
        """Return weights and metadata.

        Raises:
            InputError: the file cannot be used.
        """
        if self.weights is not None:
            held = self.weights
            if self.entry is not None:
                held = find_state_dict(held, f"step {self.step}", self.entry)
            return dropped(held, self.drop), dict(self.metadata)
        assert self.path is not None
        weights, found = read_checkpoint(self.path, self.entry, self.drop)
        return weights, {**{k: v for k, v in found.items() if k != "step"}, **self.metadata}


def coarse_to_fine(items: Sequence[Item]) -> list[Item]:
    """Return first, last, middle, then the middles between them, and so on.

    What is finished at any time then spans the whole run.
    """
    last = len(items) - 1
    order = dict.fromkeys((0, last))
    gaps = [(0, last)]
    for low, high in gaps:
        if high - low > 1:
            middle = (low + high + 1) // 2
            order[middle] = None
            gaps += [(low, middle), (middle, high)]
    return [items[position] for position in order]


def is_lazy(source: Source) -> bool:
    """Whether a source is read as it comes, and its length is not known beforehand."""
    return not isinstance(source, str | Path | Mapping | Sequence)


def as_items(source: Source, step_from: str | None = None) -> Iterator[Item]:
    """Yield the checkpoints of a source: by step where all are known, else as they come.

    Args:
        source: as for `llc.trace`.
        step_from: where files say their steps, as for `llc.trace`.

    Raises:
        InputError: there is none, two have one step, or one cannot be understood.
    """
    if isinstance(source, str | Path):
        yield from items_of_paths(paths_of(source), str(source), step_from)
        return
    order = ordering("checkpoints", step_from)
    given: Any = source.items() if isinstance(source, Mapping) else source
    if is_lazy(source):
        yield from _once(_item(each, order) for each in given)
        return
    known = list(given)
    if known and all(isinstance(each, str | Path) for each in known):
        paths = [p for each in known for p in paths_of(each)]
        yield from items_of_paths(paths, "checkpoints", step_from)
        return
    yield from sorted(_once(_item(each, order) for each in known), key=lambda item: item.step)


def paths_of(source: str | Path, *, may_be_empty: bool = False) -> list[Path]:
    """Return the checkpoints that a folder, a pattern, a path or ``hf:NAME@step{0,1,2}`` names.

    They are files, folders that are one model each, or names of the hub.

    Raises:
        InputError: there is none.
    """
    if hub.is_named(source):
        return [Path(each) for each in hub.expand(str(source))]
    path = Path(source)
    if is_model_folder(path):
        return [path]
    if path.is_dir():
        found = checkpoints_in(path)
        if not found and not may_be_empty:
            endings = ", ".join(SUFFIXES)
            raise InputError(f"{path} holds no checkpoint, expected files ending in {endings}")
        return found
    if MAGIC.search(str(source)) and not path.exists():
        names = glob.glob(str(source), recursive=True)
        found = _fitting(sorted(Path(name) for name in names))
        if not found and not may_be_empty:
            raise InputError(
                f"no file fits {source}, expected a pattern such as 'run/step_*.safetensors'"
            )
        return found
    if not path.exists() and not may_be_empty:
        raise InputError(
            f"{path} does not exist, expected a folder of checkpoints, files, or a pattern such as "
            "'run/step_*.safetensors'"
        )
    return [path] if path.is_file() else []


def ordering(where: str, step_from: str | None = None) -> Ordering:
    """Return what gives the checkpoints of one source their steps."""
    return Ordering(where, step_from, load_weights)


def items_of_paths(paths: Sequence[Path], where: str, step_from: str | None = None) -> list[Item]:
    """Give every file its step by one rule, `Ordering`, and sort by it.

    Raises:
        InputError: a file without a step, steps that are ambiguous, or two files of the same.
    """
    return [Item(step, path) for step, path in ordering(where, step_from).steps(paths)]


def _fitting(paths: list[Path]) -> list[Path]:
    """What a pattern found: the checkpoints among it, in folders too."""
    found: list[Path] = []
    files = [path for path in paths if path.is_file()]
    # Of other endings only where nothing else is there, for the reader to say what is wrong.
    found += [path for path in files if is_checkpoint(path)] or files
    for path in paths:
        if is_model_folder(path):
            found.append(path)
        elif path.is_dir():
            inside = checkpoints_in(path)
            if len(inside) != 1:
                LOG.info("%s holds %d checkpoints, and is left out", path, len(inside))
            found += inside if len(inside) == 1 else []
    return sorted(set(found))


def _item(given: Any, order: Ordering) -> Item:
    if isinstance(given, Item):
        return given
    if order.step_from is not None and not isinstance(given, str | Path):
        raise InputError(
            f"step_from is {order.step_from!r}, and checkpoints holds a {type(given).__name__}, "
            "expected paths: what is given with its step needs no rule"
        )
    if isinstance(given, Checkpoint):
        return Item(given.step, given.path, None, given.metadata)
    if isinstance(given, str | Path):
        return Item(*order.steps([Path(given)])[0])
    try:
        step, weights, *rest = given
        step = int(step)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"checkpoints holds a {type(given).__name__}, expected paths, pairs of (step, state "
            "dict), or llc.checkpoints.Checkpoint"
        ) from error
    if step < 0 or not isinstance(weights, Mapping):
        raise InputError(
            f"checkpoints holds the pair ({step}, {type(weights).__name__}), expected (step, state "
            "dict) with a step of at least 0: give model.state_dict()"
        )
    return Item(step, None, weights, rest[0] if rest else {})


def _once(items: Iterable[Item]) -> Iterator[Item]:
    """Pass checkpoints on, but no step twice."""
    seen: set[int] = set()
    for item in items:
        if item.step in seen:
            raise InputError(f"checkpoints hold step {item.step} twice: keep one of them")
        seen.add(item.step)
        yield item
