"""What is done for a few checkpoints, in this process or in another."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor

from llc.errors import InputError, brief
from llc.estimation import Estimate
from llc.estimator import estimate_stack, estimate_task
from llc.execution import Execution
from llc.settings import Settings
from llc.task import Task
from llc.trajectory.contents import kept_of
from llc.trajectory.fingerprints import fingerprint_weights
from llc.trajectory.readings import measure_readings
from llc.trajectory.sameness import Unlike, refuse_kept
from llc.trajectory.sources import Item

__all__ = ["DIED", "Job", "Order", "Outcome", "work"]

DIED = (
    "the process that worked on it died, as one does that runs out of memory: give fewer workers, "
    "less memory, or fewer chains"
)


@dataclass(frozen=True)
class Order:
    """What is the same for all checkpoints.

    Attributes:
        task: the task, or a function that returns it.
        key: the task's fingerprint.
        settings: what to sample, and how.
        execution: device and limits.
        n_eff: measure the curvature at each checkpoint too.
        readings: fingerprint of the readings asked for.
        doubts: what is not the same here as where the task was built first, and counts where a
            checkpoint does not bring it.
    """

    task: Task | Callable[[], Task]
    key: str
    settings: Settings
    execution: Execution | None
    n_eff: bool
    readings: str
    doubts: tuple[str, ...] = ()

    def built(self) -> "Order":
        """Return the same with the task itself in it.

        Raises:
            Unlike: it is not the one that it was elsewhere.
        """
        if isinstance(self.task, Task):
            return self
        task = self.task()
        return replace(self, task=task, doubts=self.doubts + getattr(self.task, "doubts", ()))

    def mark(self, weights: Mapping[str, Tensor], known: Mapping[str, float]) -> tuple[str, str]:
        """Return fingerprints: of what decides the estimate, and the numbers beside it."""
        beside = json.dumps([self.readings, self.n_eff, dict(known)], sort_keys=True)
        decisive = fingerprint_weights({**weights, **self._left(weights)}, self.key, self.settings)
        return decisive, hashlib.sha256(beside.encode()).hexdigest()

    def _left(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return buffers and frozen parameters that a checkpoint does not bring under their names.

        The estimate depends on them as on the others.
        """
        assert isinstance(self.task, Task)
        names = [name for name in kept_of(self.task.model) if name not in weights]
        try:
            state = self.task.at(weights).model.state_dict() if names else {}
        except InputError:
            return {}  # for whoever estimates to say
        return {f"the task's own {name}": state[name] for name in names if name in state}


class Job(NamedTuple):
    """A checkpoint, and whether it is to be estimated, or only its readings are missing."""

    item: Item
    estimate: bool = True


class Outcome(NamedTuple):
    """A step's estimate, if asked for, with its fingerprints and the numbers beside it.

    Or the sentence that says why there is none.
    """

    step: int
    marks: tuple[str, str] = ("", "")
    estimate: Estimate | None = None
    metadata: dict[str, float] | None = None
    reason: str = ""


def work(order: Order, jobs: Sequence[Job]) -> list[Outcome]:
    """Estimate checkpoints, side by side where there are several and nothing stands in the way.

    Whatever goes wrong with one of them is its own affair, and stands in its outcome.

    Raises:
        Unlike: the task is not the one that it was elsewhere.
    """
    ready: list[tuple[int, Task]] = []
    found: dict[int, Outcome] = {}
    order = order.built()
    assert isinstance(order.task, Task)
    for job in jobs:
        try:
            weights, known = job.item.read()
            task = order.task.at(weights)
            refuse_kept(order.task, task, order.doubts)
            marks = order.mark(weights, known)
            device = None if order.execution is None else order.execution.device
            metadata = measure_readings(
                task, order.settings, known, n_eff=order.n_eff, device=device
            )  # fmt: skip
        except Unlike:
            raise
        except Exception as error:  # whatever a file, model or loss raises
            found[job.item.step] = Outcome(job.item.step, reason=_sentence(error))
            continue
        found[job.item.step] = Outcome(job.item.step, marks, None, metadata)
        if job.estimate:
            ready.append((job.item.step, task))
    for step, result in _estimates(order, ready):
        if isinstance(result, Estimate):
            found[step] = found[step]._replace(estimate=result)
        else:
            found[step] = Outcome(step, reason=_sentence(result))
    return [found[job.item.step] for job in jobs]


def _estimates(
    order: Order, ready: Sequence[tuple[int, Task]]
) -> Iterator[tuple[int, Estimate | Exception]]:
    if len(ready) > 1:
        try:
            tasks = [task for _, task in ready]
            many = estimate_stack(tasks, order.settings, execution=order.execution)
        except Exception:  # one that stands in the way is told by itself, below
            pass
        else:
            yield from ((step, each) for (step, _), each in zip(ready, many, strict=True))
            return
    for step, task in ready:
        try:
            yield step, estimate_task(task, order.settings, execution=order.execution)
        except Exception as error:
            yield step, error


def _sentence(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    return f"{type(error).__name__}: {brief(error)}"
