"""Whether a task that is built anew, elsewhere or once more, is the task it was before.

A worker process, a shard on another machine and a resumed run call the user's task function again.
What that function draws without a seed is then drawn anew, and the checkpoints of one run would be
estimated on different data.
"""

import functools
import hashlib
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llc.errors import InputError, some
from llc.task import Task
from llc.trajectory.contents import data_of, kept_of, state_of
from llc.trajectory.fingerprints import add_tensor, architecture, code_key, without_addresses

__all__ = [
    "UNSEEDED",
    "Blueprint",
    "Unlike",
    "Witness",
    "built",
    "explained",
    "listed",
    "refuse_kept",
]

BUCKETS = 64
ROWS = 2**15
MOST_SKETCHED = 64
# Rounding differs between machines and between numbers of threads.
CLOSE = {"torch.float16": 1e-3, "torch.bfloat16": 1e-2}
CLOSE_ELSE = 1e-5
CODE = f"code of Python {sys.version_info[:2]}"
UNSEEDED = (
    "since the task function draws anew at every call: give it a seed, such as "
    "torch.manual_seed(0) as its first line, or generator=torch.Generator().manual_seed(0) in "
    "random_split and torch.randn (numpy and random have seeds of their own)"
)

Mark = tuple[str, str, tuple[float, ...]]
"""A digest, a kind, and of floating-point numbers a sketch, which rounding hardly moves."""


class Unlike(Exception):
    """A task built anew differs from the one built before.

    Args:
        names: of the pieces that differ.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(names)
        self.names = names


@dataclass(frozen=True)
class Witness:
    """Marks of the pieces of a task.

    Attributes:
        certain: of data, loss code, architecture and state that no checkpoint brings.
        kept: of buffers and frozen parameters, which count where a checkpoint leaves them as they
            are.
    """

    certain: Mapping[str, Mark]
    kept: Mapping[str, Mark] = field(default_factory=dict)

    @classmethod
    def of(cls, task: Task) -> "Witness":
        """Look at a task."""
        certain = {
            "architecture": _mark_of_text(architecture(task.model), "text"),
            "loss function": _mark_of_text(_code_of(task), CODE),
        }
        named: dict[str, list[Any]] = {}
        for name, value in (*data_of(task), *state_of(task)):
            named.setdefault(name, []).append(value)
        certain |= {name: _mark_of_all(values) for name, values in named.items()}
        # Rounding apart: frozen weights come from files or from generators, which do not round.
        kept = {name: _mark(v, exact=True) for name, v in kept_of(task.model).items()}
        return cls(certain, kept)

    def differences(self, other: "Witness") -> tuple[str, ...]:
        """Return names of the pieces that no checkpoint brings and that are not the same."""
        return _differences(self.certain, other.certain)

    def doubts(self, other: "Witness") -> tuple[str, ...]:
        """Return names of buffers and frozen parameters that are not the same."""
        return _differences(self.kept, other.kept)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {"certain": dict(self.certain), "kept": dict(self.kept)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Witness":
        """Read what `to_dict` returned."""
        certain, kept = (
            {str(n): (str(d), str(k), tuple(map(float, s))) for n, (d, k, s) in marks.items()}
            for marks in (values["certain"], values["kept"])
        )
        return cls(certain, kept)


class Blueprint:
    """A function that returns a task, called once a process, and never for another task unnoticed.

    What is pickled is the function (or the task, if that is what was given) with a witness of the
    task as it is here; where it is unpickled the first call builds the task and compares.

    Args:
        build: a task, or a function that returns one.

    Attributes:
        doubts: buffers and frozen parameters that differ here; see `refuse_kept`.
    """

    def __init__(self, build: "Task | Callable[[], Task]") -> None:
        self._build, self._key = build, uuid.uuid4().hex
        self._task: Task | None = build if isinstance(build, Task) else None
        self._witness: Witness | None = None
        self.doubts: tuple[str, ...] = ()

    @classmethod
    def of(cls, task: "Task | Callable[[], Task]") -> "Blueprint":
        """Return a blueprint of what is given, which may be one already."""
        return task if isinstance(task, Blueprint) else cls(task)

    def __call__(self) -> Task:
        """Return the task.

        Raises:
            InputError: what was given is no task.
            Unlike: it is not what it was where this comes from.
        """
        if self._task is None:
            self._task, self.doubts = _LATEST.get(self._key) or self._compared()
            if self._witness is not None:
                _LATEST.clear()
                _LATEST[self._key] = self._task, self.doubts
        return self._task

    @property
    def witness(self) -> Witness:
        """What the task is, looked at once."""
        if self._witness is None:
            self._witness = Witness.of(self())
        return self._witness

    def again(self) -> tuple[str, ...]:
        """Build once more, here, and return what differs from before, kept pieces included."""
        if isinstance(self._build, Task):
            return ()
        other = Witness.of(built(self._build))
        return self.witness.differences(other) + self.witness.doubts(other)

    def _compared(self) -> tuple[Task, tuple[str, ...]]:
        task = built(self._build)
        if self._witness is None:
            return task, ()
        here = Witness.of(task)
        if names := self._witness.differences(here):
            raise Unlike(names)
        return task, self._witness.doubts(here)

    def __getstate__(self) -> dict[str, Any]:
        self.witness  # noqa: B018 - looked at before it goes
        return {**vars(self), "_task": None, "doubts": ()}


_LATEST: dict[str, tuple[Task, tuple[str, ...]]] = {}
"""In a worker: the task of the blueprint that was built last, since each job brings its own."""


def built(task: "Task | Callable[[], Task]") -> Task:
    """Return a task, or what a function that was given instead of it returns.

    Raises:
        InputError: that is no task.
    """
    found = task
    if not isinstance(task, Task | torch.nn.Module) and callable(task):
        found = task()
    if not isinstance(found, Task):
        raise InputError(
            f"task is a {type(found).__name__}, expected an llc.Task(model, data, loss), or a "
            "function that returns one"
        )
    return found


def refuse_kept(task: Task, at: Task, doubts: Iterable[str]) -> None:
    """Refuse a checkpoint that leaves pieces as they are which are not everywhere the same.

    Args:
        task: as built here.
        at: the same at a checkpoint's weights.
        doubts: names of buffers and frozen parameters that differ from where they were built first.

    Raises:
        Unlike: the checkpoint does not bring all of them.
    """
    own, now = task.model.state_dict(), at.model.state_dict()
    left = [n for n in doubts if n in own and n in now and _equal(own[n], now[n])]
    if left:
        raise Unlike(tuple(f"{n!r} of the model, which the checkpoint lacks" for n in left))


def explained(unlike: Unlike, blueprint: Blueprint) -> InputError:
    """Return the sentence that names what differs, and what to write.

    The task is built once more here, which tells what is drawn anew at every call from what the
    process decides.
    """
    many = "" if len(unlike.names) > 1 else "s"
    differ = f"the task is not the same in every process: its {listed(unlike.names)} differ{many}"
    if blueprint.again():
        return InputError(f"{differ}, {UNSEEDED}")
    return InputError(
        f"{differ}, though two calls in this process agree: let nothing depend on the process (an "
        "unseeded draw when a module is imported, the order of a set, hash(), os.getpid(), the "
        "time), or save the data to a file once and load that"
    )


def listed(names: Sequence[str]) -> str:
    """Name pieces, the first few of many."""
    few = f"{', '.join(names[:-1])} and {names[-1]}"
    return few if 1 < len(names) < 4 else some(names)


def _equal(one: Tensor, other: Tensor) -> bool:
    return _mark(one, exact=True) == _mark(other, exact=True)


def _differences(one: Mapping[str, Mark], other: Mapping[str, Mark]) -> tuple[str, ...]:
    names = [*one, *(name for name in other if name not in one)]
    return tuple(n for n in names if n not in one or n not in other or not _same(one[n], other[n]))


def _same(one: Mark, other: Mark) -> bool:
    (digest, kind, sketch), (other_digest, other_kind, other_sketch) = one, other
    if digest == other_digest:
        return True
    if kind != other_kind:
        # Another Python compiles the same text to other code.
        return kind.startswith(CODE[:4]) and other_kind.startswith(CODE[:4])
    if not sketch:
        return False
    a, b = np.array(sketch), np.array(other_sketch)
    close = CLOSE.get(kind.partition("(")[0], CLOSE_ELSE)
    return bool(np.linalg.norm(a - b) <= close * max(np.linalg.norm(a), np.linalg.norm(b)))


def _mark(value: Any, *, exact: bool = False) -> Mark:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        value = torch.from_numpy(np.array(value))
    if not isinstance(value, Tensor):
        return _mark_of_text(without_addresses(repr(value)), type(value).__name__)
    digest, kind = hashlib.sha256(), f"{value.dtype}{tuple(value.shape)}"
    add_tensor(digest, value)
    plain = value.layout == torch.strided and not value.is_quantized and not value.is_nested
    drawn = plain and value.is_floating_point() and not exact
    return digest.hexdigest(), kind, _sketch(value) if drawn else ()


def _mark_of_all(values: Sequence[Any]) -> Mark:
    """Mark what has one name: a value, or all that a list holds."""
    if len(values) == 1:
        return _mark(values[0])
    marks = [_mark(value) for value in values]
    digest, kind, _ = _mark_of_text(" ".join(d + k for d, k, _ in marks), f"{len(marks)} values")
    drawn = len(marks) <= MOST_SKETCHED and all(sketch for _, _, sketch in marks)
    return digest, kind, tuple(x for _, _, sketch in marks for x in sketch) if drawn else ()


def _mark_of_text(text: str, kind: str) -> Mark:
    return hashlib.sha256(text.encode()).hexdigest(), kind, ()


def _code_of(task: Task) -> str:
    """Describe the loss's code; that of modules by their structure, since sources may be far."""
    parts: list[Any] = []
    for part in (task.loss, task.batch_loss, task.potential):
        while isinstance(part, functools.partial):
            part = part.func  # noqa: PLW2901 - what it holds is compared by value
        parts.append(part)
    return " ".join(str(p) if isinstance(p, torch.nn.Module) else code_key(p) for p in parts)


def _sketch(values: Tensor) -> tuple[float, ...]:
    """Sum numbers with random signs into 64 buckets.

    The squared distance of two sketches is, on average over signs, that of the numbers.
    """
    flat = values.detach().reshape(-1)
    total = torch.zeros(BUCKETS, dtype=torch.float64)
    signs = torch.Generator().manual_seed(0)
    for start in range(0, len(flat), BUCKETS * ROWS):
        part = flat[start : start + BUCKETS * ROWS].cpu().double().nan_to_num(0, 0, 0)
        part = torch.nn.functional.pad(part, (0, -len(part) % BUCKETS)).reshape(-1, BUCKETS)
        sign = torch.randint(2, (len(part),), generator=signs).double() * 2 - 1
        total += sign @ part
    return tuple(total.tolist())
