"""Who does the work, here or in any executor that is given, and how it is handed out."""

import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import replace
from typing import Protocol

from llc.errors import InputError, brief
from llc.settings import Settings
from llc.trajectory.follow import POLL
from llc.trajectory.sameness import Unlike
from llc.trajectory.work import DIED, Job, Order, Outcome, work

__all__ = ["Crew", "Foreign", "Here", "share"]

Jobs = list[Job]
UNKNOWN_SIZE = 32


class Crew(Protocol):
    """Takes jobs, at most ``window`` at a time."""

    window: int
    settings: Settings

    def compare(self) -> None:
        """Make sure, before anything is spent, that the task is the same elsewhere.

        Raises:
            Unlike: it is not.
        """
        ...

    def submit(self, jobs: Jobs) -> "Future[list[Outcome]]":
        """Begin to work."""
        ...

    def recover(self, lost: Sequence[Jobs]) -> Iterator[Outcome]:
        """Do what was lost when a process died, or say what became of it."""
        ...

    def close(self, *, done: bool) -> None:
        """Let everybody go; at once unless the work is done."""
        ...


class Here:
    """This process, one job after another."""

    window = 1

    def __init__(self, order: Order) -> None:
        self._order, self.settings = order.built(), order.settings

    def compare(self) -> None:
        """There is no other process."""

    def submit(self, jobs: Jobs) -> "Future[list[Outcome]]":
        """Work now."""
        future: Future[list[Outcome]] = Future()
        future.set_result(work(replace(self._order, settings=self.settings), jobs))
        return future

    def recover(self, lost: Sequence[Jobs]) -> Iterator[Outcome]:
        """Nothing can be lost."""
        raise AssertionError(lost)

    def close(self, *, done: bool) -> None:
        """Nobody to let go."""


class Foreign:
    """An executor that somebody else made; a task goes along with every job."""

    def __init__(self, order: Order, executor: Executor) -> None:
        self._order, self._executor, self.settings = order, executor, order.settings
        self.window = 2 * int(getattr(executor, "_max_workers", UNKNOWN_SIZE))
        self._futures: set[Future[list[Outcome]]] = set()

    def compare(self) -> None:
        """Each job brings the task itself, and compares it before anything else."""

    def submit(self, jobs: Jobs) -> "Future[list[Outcome]]":
        """Hand over to the executor."""
        try:
            order = replace(self._order, settings=self.settings)
            future = self._executor.submit(work, order, jobs)
        except BrokenExecutor as error:
            raise InputError(
                f"the executor does not work any more ({brief(error)}): call again with another "
                "one; what is finished is kept if out was given"
            ) from error
        self._futures = {f for f in self._futures if not f.done()} | {future}
        return future

    def recover(self, lost: Sequence[Jobs]) -> Iterator[Outcome]:
        """Say of each that its process died: the executor is beyond our reach."""
        yield from (Outcome(job.item.step, reason=DIED) for jobs in lost for job in jobs)

    def close(self, *, done: bool) -> None:
        """Cancel what has not begun; the executor itself is its maker's."""
        for future in self._futures:
            future.cancel()


def share(groups: Iterator[Jobs | None], crew: Crew) -> Generator[Outcome, None, None]:
    """Hand out jobs as there is room for them, and yield what comes back.

    None among the groups says that there is nothing at present, and that more may come.
    """
    pending: dict[Future[list[Outcome]], Jobs] = {}
    more = True
    while more or pending:
        idle = False
        while more and not idle and len(pending) < crew.window:
            try:
                jobs = next(groups)
            except StopIteration:
                more = False
                break
            if jobs is None:
                idle = True
            elif jobs:
                pending[crew.submit(jobs)] = jobs
        if not pending:
            if idle:
                time.sleep(POLL)
            continue
        done, _ = wait(pending, POLL if idle else None, FIRST_COMPLETED)
        lost: list[Jobs] = []
        for future in done:
            yield from _result(future, pending.pop(future), lost)
        if lost:
            # All others broke with it, but for those that had just ended.
            wait(pending)
            for future in list(pending):
                yield from _result(future, pending.pop(future), lost)
            yield from crew.recover(lost)


def _result(future: "Future[list[Outcome]]", jobs: Jobs, lost: list[Jobs]) -> list[Outcome]:
    try:
        return future.result()
    except BrokenExecutor:
        lost.append(jobs)
        return []
    except Unlike:
        raise
    except Exception as error:  # of the way there or back, such as what cannot be pickled
        reason = f"{type(error).__name__}: {brief(error)}"
        return [Outcome(job.item.step, reason=reason) for job in jobs]
