"""Run the suite with the default estimator, on several processes, going on where it stopped."""

import json
import math
import multiprocessing
import platform
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import llc
from llc.errors import InputError
from llc.estimator import estimate_task
from llc.files import read_json, write_whole
from llc.settings import Settings
from llc.truths import Truth
from llc.validation.cases import Case, cases
from llc.validation.validation import Row, Validation, row_from

__all__ = ["validate"]

OWN = ("n_beta", "gamma", "seed")


def validate(
    tier: str = "quick",
    *,
    out: str | Path | None = None,
    workers: int = 1,
    progress: Callable[[Row, int, int], None] | None = None,
    **given: Any,
) -> Validation:
    """Estimate every case of the suite and hold it against what is known.

    Args:
        tier: ``"quick"`` (minutes) or ``"full"`` (more cases, eight seeds each).
        out: a folder: finished estimates are kept there, and reused by the same call.
        workers: processes, one thread each; 1 computes here.
        progress: called with (row, done, total).
        **given: settings of `llc.estimate`, for all cases: ``sampler``, ``budget``, ``precision``,
            ``chains``, …; nβ, γ and seed are the suite's own.

    Returns:
        The table with its summary.

    Raises:
        InputError: no such tier, or a setting that the suite decides or does not know.
    """
    for name in given:
        if name in OWN or name not in Settings.__dataclass_fields__:
            what = "is the suite's own" if name in OWN else "is no setting"
            raise InputError(f"{name} {what}: drop it")
    if workers < 1:
        raise InputError(f"workers is {workers}, expected a whole number of at least 1")
    Settings(**given)  # for its checks, before anything long begins
    jobs = [(k, seed) for k, case in enumerate(cases(tier)) for seed in range(case.seeds)]
    folder = None if out is None else _Folder(Path(out), tier, given)
    rows: dict[tuple[int, int], Row] = {}

    def keep(job: tuple[int, int], row: Row, fresh: bool = True) -> None:
        rows[job] = row
        if folder is not None and fresh:
            folder.write(job, row)
        if progress is not None:
            progress(row, len(rows), len(jobs))

    todo = []
    for job in jobs:
        found = None if folder is None else folder.read(job)
        if found is None:
            todo.append(job)
        else:
            keep(job, found, fresh=False)
    if workers == 1:
        for job in todo:
            keep(job, _estimate(tier, *job, given))
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
            futures = {pool.submit(_estimate, tier, *job, given): job for job in todo}
            try:
                for future in as_completed(futures):
                    keep(futures[future], future.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return Validation(tier, dict(given), _versions(), tuple(rows[job] for job in jobs))


def _estimate(tier: str, index: int, seed: int, given: dict[str, Any]) -> Row:
    case = cases(tier)[index]
    truth = case.make()
    settings = Settings(n_beta=case.n_beta, gamma=case.gamma, seed=seed, **given)
    e = estimate_task(truth.task(case.n), settings)
    both = _exact(case, truth)
    measured = not math.isnan(e.llc)
    return Row(
        case=truth.name if case.n is None else f"{truth.name}, n = {case.n:,}",
        group=case.group,
        seed=seed,
        n_beta=case.n_beta,
        gamma=case.gamma,
        a=None if truth.llc is None else float(truth.llc),
        b=None if both is None else both[0],
        b_error=0.0 if both is None else both[1],
        c=e.llc if measured else None,
        c_error=e.mcse if measured and math.isfinite(e.mcse) else None,
        verdict=e.verdict.status,
        reasons=tuple(reason.name for reason in e.verdict.reasons),
        gradients=e.gradient_evaluations,
        seconds=e.seconds,
    )


def _exact(case: Case, truth: Truth) -> tuple[float, float] | None:
    # B is that of the population loss.
    return truth.expected_with_error(case.n_beta, case.gamma) if case.n is None else None


def _versions() -> dict[str, str]:
    return {"llc": llc.__version__, "torch": torch.__version__, "python": platform.python_version()}


class _Folder:
    """Finished rows, one file each; reused only by the same suite, settings and versions."""

    def __init__(self, path: Path, tier: str, given: dict[str, Any]) -> None:
        if path.exists() and not path.is_dir():
            raise InputError(f"out {path} is a file, expected a folder, which may not exist yet")
        self._path = path / "rows"
        self._key = {"tier": tier, "settings": given, "versions": _versions()}

    def _file(self, job: tuple[int, int]) -> Path:
        return self._path / f"{job[0]:03d}-{job[1]}.json"

    def read(self, job: tuple[int, int]) -> Row | None:
        try:
            record = read_json(self._file(job))
            return row_from(record["row"]) if record["key"] == self._key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, job: tuple[int, int], row: Row) -> None:
        record = {"key": self._key, "row": asdict(row)}
        write_whole(self._file(job), json.dumps(record, allow_nan=False).encode())
