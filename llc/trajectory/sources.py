"""Where checkpoints come from: a folder, a pattern, a list, or something read as it comes."""

import glob
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from llc.checkpoints import SUFFIXES, Checkpoint, read_checkpoint, read_metadata
from llc.errors import InputError
from llc.formats import dropped, find_state_dict, is_model_folder
from llc.language import hub

__all__ = [
    "Item", "Source", "as_items", "coarse_to_fine", "is_lazy", "items_of_paths", "paths_of",
]  # fmt: skip

Weights = Mapping[str, Tensor]
Source = (
    str
    | Path
    | Mapping[int, Weights]
    | Iterable[Checkpoint | str | Path | tuple[int, Weights] | tuple[int, Weights, Any]]
)
MAGIC = re.compile(r"[*?\[]")
# What trainers save beside the weights, in the same folder.
BESIDE = re.compile(r"optim|sched|rng_state|scaler|training_args")


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


def as_items(source: Source) -> Iterator[Item]:
    """Yield the checkpoints of a source: by step where all are known, else as they come.

    Raises:
        InputError: there is none, two have one step, or one cannot be understood.
    """
    if isinstance(source, str | Path):
        yield from items_of_paths(paths_of(source), str(source))
        return
    given: Any = source.items() if isinstance(source, Mapping) else source
    if is_lazy(source):
        yield from _once(map(_item, given))
        return
    known = list(given)
    if known and all(isinstance(each, str | Path) for each in known):
        yield from items_of_paths([p for each in known for p in paths_of(each)], "checkpoints")
        return
    yield from sorted(_once(map(_item, known)), key=lambda item: item.step)


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
        found = [p for p in path.iterdir() if p.suffix in SUFFIXES and not p.name.startswith(".")]
        # As the trainers of some libraries lay them out.
        found = found or [p for p in path.iterdir() if is_model_folder(p)]
        found = found or [
            p for p in path.glob("*[0-9]/*") if p.suffix in SUFFIXES and not BESIDE.match(p.stem)
        ]
        if not found and not may_be_empty:
            endings = ", ".join(SUFFIXES)
            raise InputError(f"{path} holds no checkpoint, expected files ending in {endings}")
        return sorted(found)
    if MAGIC.search(str(source)) and not path.exists():
        names = glob.glob(str(source), recursive=True)
        found = sorted(Path(name) for name in names)
        found = [p for p in found if p.is_file() or is_model_folder(p)]
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


def items_of_paths(paths: Sequence[Path], where: str) -> list[Item]:
    """Give every file its step, and sort by it.

    The step is the last number in the file's name; else the number saved in the file as ``step``
    or ``global_step``; else, where files lie in folders of their own, that of the folder's name.

    Raises:
        InputError: a file without a step, or two of the same.
    """
    apart = len({path.parent for path in paths}) == len(paths) > 1
    found: dict[int, Path] = {}
    for path in paths:
        step = _step_of(path, apart)
        if step is None:
            if hub.is_named(path):
                raise InputError(
                    f"{path} has no training step in its revision: write hf:NAME@step{{0,1,2}}, or "
                    "give pairs (step, weights)"
                )
            raise InputError(
                f"{path.name} has no training step in its name: call it step_1000{path.suffix}, say"
            )
        if step in found:
            one, other = (p.relative_to(p.parents[1]) if apart else p.name
                          for p in (found[step], path))  # fmt: skip
            raise InputError(f"{where}: {one} and {other} are both step {step}: keep one of them")
        found[step] = path
    return [Item(step, found[step]) for step in sorted(found)]


def _step_of(path: Path, apart: bool) -> int | None:
    if hub.is_named(path):
        name, revision = hub.split(str(path))
        return _last_number(revision or Path(name).name)
    if path.is_dir():
        return _last_number(path.name)
    # What numbers files in parts, as model-00001-of-00002, is no step.
    name = _last_number(re.sub(r"\d+-of-\d+", "", path.stem))
    return name if name is not None else _saved_step(path, apart)


def _saved_step(path: Path, apart: bool) -> int | None:
    try:
        saved = read_metadata(path) if path.suffix == ".safetensors" else read_checkpoint(path)[1]
    except InputError:
        saved = {}
    for name in ("step", "global_step"):
        if name in saved and saved[name] == int(saved[name]):
            return int(saved[name])
    return _last_number(path.parent.name) if apart else None


def _last_number(text: str) -> int | None:
    numbers = re.findall(r"\d+", text)
    return int(numbers[-1]) if numbers else None


def _item(given: Any) -> Item:
    if isinstance(given, Item):
        return given
    if isinstance(given, Checkpoint):
        return Item(given.step, given.path, None, given.metadata)
    if isinstance(given, str | Path):
        return items_of_paths([Path(given)], str(given))[0]
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
