"""Worker processes that survive each other's deaths, and do not survive their parent's."""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import torch

from llc.errors import InputError, brief
from llc.execution import GIB, SHARE_OF_FREE, Execution, free_memory
from llc.settings import Settings
from llc.trajectory.sameness import Blueprint, Unlike, explained
from llc.trajectory.work import DIED, Job, Order, Outcome, work

__all__ = ["Processes", "compare_elsewhere", "devices_for"]

Jobs = list[Job]

_own: dict[str, Any] = {}
"""In a worker: the order, as bytes and, once somebody asked for it, as it is."""


class Processes:
    """Processes of our own, one thread each, that end with this one however it ends.

    Args:
        order: what is the same for all checkpoints.
        count: number of processes.
        devices: the i-th process takes the i-th of them, round and round; those of
            `devices_for` unless given.
    """

    def __init__(self, order: Order, count: int, devices: Sequence[str] | None = None) -> None:
        self.window, self.settings = 2 * count, order.settings
        self._devices = devices_for(order.execution) if devices is None else tuple(devices)
        self._count, self._compared = count, False
        try:
            self._order = pickle.dumps(replace(order, execution=_divided(order.execution, count)))
        except Exception as error:  # pickle has many ways to say no
            raise InputError(
                f"the task cannot be sent to worker processes ({_first(error)}): define its model "
                "and loss in a module, give trace a function that returns the task, or leave "
                "workers at 1"
            ) from error
        self._context = multiprocessing.get_context("spawn")
        self._began = self._context.Event()
        self._started = self._context.Value("i", 0)
        self._pool, self._alive = self._start(count)

    def submit(self, jobs: Jobs) -> "Future[list[Outcome]]":
        """Hand over to a process, once it is known that its task is the same."""
        self.compare()
        try:
            return self._pool.submit(_work_in_process, self.settings, jobs)
        except BrokenExecutor as error:
            future: Future[list[Outcome]] = Future()
            future.set_exception(error)
            return future

    def compare(self) -> None:
        """Let processes begin, build the task and compare it with the one built here, once.

        Whatever else goes wrong there is for the first job to say.

        Raises:
            Unlike: it is not the same.
        """
        if self._compared:
            return
        self._compared = True
        with suppress(BrokenExecutor):
            for future in [self._pool.submit(_compare_in_process) for _ in range(self._count)]:
                future.result()

    def recover(self, lost: Sequence[Jobs]) -> Iterator[Outcome]:
        """Do each checkpoint again, alone; who dies once more is to blame itself.

        Raises:
            InputError: no process has ever begun.
        """
        self.close(done=False)
        if not self._began.is_set():
            raise InputError(
                "worker processes end before they begin: put the call of llc.trace under "
                "if __name__ == '__main__':, as every script that starts processes must, or leave "
                "workers at 1"
            )
        for job in (job for jobs in lost for job in jobs):
            pool, alive = self._start(1)
            try:
                yield from pool.submit(_work_in_process, self.settings, [job]).result()
            except BrokenExecutor:
                yield Outcome(job.item.step, reason=DIED)
            finally:
                alive.close()
                pool.shutdown(cancel_futures=True)
        self._pool, self._alive = self._start(self._count)

    def close(self, *, done: bool) -> None:
        """Wait for what is in work, or end it."""
        if not done:
            self._alive.close()
        self._pool.shutdown(cancel_futures=True)
        self._alive.close()

    def _start(self, count: int) -> tuple[ProcessPoolExecutor, Connection]:
        # Its writing end lives in this process only, and closes with it, even at a kill -9.
        reading, alive = self._context.Pipe(duplex=False)
        shared = (reading, self._began, self._order, self._devices, self._started)
        pool = ProcessPoolExecutor(count, self._context, _begin, shared)
        return pool, alive


def compare_elsewhere(blueprint: Blueprint, workers: int, execution: Execution | None) -> None:
    """Make sure that worker processes will build the same task, before anything is spent on it.

    Raises:
        InputError: they do not, or it cannot be sent to them.
    """
    if workers < 2:
        return
    crew = Processes(Order(blueprint, "", Settings(), execution, False, ""), workers)
    try:
        crew.compare()
    except Unlike as unlike:
        raise explained(unlike, blueprint) from None
    finally:
        crew.close(done=False)


def devices_for(execution: Execution | None) -> tuple[str, ...]:
    """Return every GPU where ``cuda`` is asked for without a number; else nothing to choose from.

    A number, as in ``cuda:1``, keeps all processes there.
    """
    if execution is None or str(execution.device) != "cuda":
        return ()
    return tuple(f"cuda:{i}" for i in range(torch.cuda.device_count()))


def _divided(execution: Execution | None, count: int) -> Execution:
    """Give each process its part of the memory; that of a device is measured at its use."""
    execution = execution or Execution()
    if execution.memory is not None:
        return replace(execution, memory=execution.memory / count)
    if str(execution.device or "cpu") != "cpu":
        return execution
    free = SHARE_OF_FREE * free_memory(torch.device("cpu")) / GIB
    known = free < float("inf")
    return replace(execution, memory=free / count) if known else execution


def _begin(
    alive: Connection, began: Any, order: bytes, devices: Sequence[str], started: Any
) -> None:
    """Set up a worker: one thread, no Ctrl-C of its own, and no life after its parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A cluster warns every process of a job that its time is up; what to do is the parent's choice.
    for name in ("SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    _own["bytes"] = order
    if devices:
        with started.get_lock():
            _own["device"] = devices[started.value % len(devices)]
            started.value += 1
    began.set()


def _end_with(alive: Connection) -> None:
    try:
        alive.poll(None)
    finally:
        os._exit(1)


def _compare_in_process() -> None:
    try:
        _order()
    except Unlike:
        raise
    except Exception:  # whatever importing a user's module raises
        pass


def _order() -> Order:
    if "order" not in _own:
        _own["order"] = _placed(pickle.loads(_own["bytes"])).built()
    return _own["order"]


def _work_in_process(settings: Settings, jobs: Jobs) -> list[Outcome]:
    try:
        order = _order()
    except Unlike:
        raise
    except Exception as error:  # whatever importing a user's module raises
        reason = (
            f"a worker process cannot build the task ({_first(error)}): define its model and "
            "loss in a module, or leave workers at 1"
        )
        return [Outcome(job.item.step, reason=reason) for job in jobs]
    return work(replace(order, settings=settings), jobs)


def _placed(order: Order) -> Order:
    """Return the order with this worker's own device, if it has one."""
    if "device" not in _own:
        return order
    execution = replace(order.execution or Execution(), device=_own["device"])
    return replace(order, execution=execution)


def _first(error: Exception) -> str:
    return f"{type(error).__name__}: {brief((str(error).splitlines() or [''])[0])}"
