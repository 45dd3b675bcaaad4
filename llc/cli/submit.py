"""Shards of one run folder as jobs of a cluster, through submitit (extra ``slurm``).

``RUN/jobs/jobs.json`` says which jobs are under way, so that the same command waits for them
instead of submitting them once more; logs lie beside it.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llc.errors import InputError
from llc.files import write_whole

__all__ = ["Jobs", "Limits", "Requeued"]

FILE = "jobs.json"
MOST_TIMEOUTS = 1000
LONG = 60 * 24 * 365
POLL = 1.0
LATE = 30.0


@dataclass(frozen=True)
class Limits:
    """What a job may have; None leaves it to the cluster, but for the time, which SLURM needs.

    Attributes:
        partition: where.
        minutes: time of one job, after which it is requeued and goes on.
        gpus: GPUs of one job.
        cpus: cores of one job.
        more: further parameters of submitit's SLURM executor by name, such as account.
    """

    partition: str | None = None
    minutes: int | None = None
    gpus: int | None = None
    cpus: int | None = None
    more: tuple[tuple[str, str], ...] = ()

    def parameters(self, cluster: str) -> dict[str, Any]:
        """Return them as submitit's executor of a cluster calls them.

        Raises:
            InputError: one of them means nothing where no SLURM is.
        """
        if cluster == "local":
            if self.partition is not None or self.more:
                raise InputError(
                    "submit local is this machine, which has no partitions or accounts: drop "
                    "--partition and --slurm, or give --submit slurm"
                )
            return {"timeout_min": self.minutes or LONG, "gpus_per_node": self.gpus or 0}
        found: dict[str, Any] = {
            "slurm_job_name": "rlct", "slurm_time": self.minutes or 60, "slurm_ntasks_per_node": 1,
        }  # fmt: skip
        named = {
            "partition": self.partition, "gpus_per_node": self.gpus, "cpus_per_task": self.cpus,
        }  # fmt: skip
        found |= {f"slurm_{name}": value for name, value in named.items() if value is not None}
        return found | {f"slurm_{name}": _number(value) for name, value in self.more}


class Requeued:
    """A call that a preempted or timed-out job makes again, where it was submitted from.

    What is kept of its work lies in the run folder, so that the call itself holds nothing.
    """

    def __init__(self, call: Callable[[], None]) -> None:
        self.call, self.place = call, Path.cwd()

    def __call__(self) -> str:
        """Make the call; return what it said of bad input, which is nothing where it is done."""
        os.chdir(self.place)
        try:
            self.call()
        except InputError as error:
            return str(error)
        return ""

    def checkpoint(self) -> Any:
        """What submitit asks for when the job is about to be stopped: the same again."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


class Jobs:
    """The jobs of one run folder.

    Args:
        folder: for logs and the record of what is under way; every node must see it.
        cluster: ``"slurm"``, or ``"local"`` for processes of this machine.

    Raises:
        InputError: submitit is not installed.
    """

    def __init__(self, folder: Path, cluster: str) -> None:
        try:
            import submitit
        except ImportError as error:
            raise InputError(
                "--submit needs submitit, which is not installed: pip install 'llc-toolkit[slurm]'"
            ) from error
        self._submitit, self._folder, self._cluster = submitit, folder.absolute(), cluster
        self._gone: dict[str, float] = {}
        self.jobs: list[Any] = []

    def recall(self) -> bool:
        """Take up jobs that an earlier command submitted; tell whether there are any."""
        try:
            found = json.loads((self._folder / FILE).read_text())
            kind = {"slurm": self._submitit.SlurmJob, "local": self._submitit.LocalJob}
            self.jobs = [kind[found["cluster"]](self._folder, str(i)) for i in found["jobs"]]
            self._cluster = found["cluster"]
        except (OSError, ValueError, LookupError, TypeError):
            return False
        return bool(self.jobs)

    def submit(self, calls: Sequence[Callable[[], None]], limits: Limits) -> None:
        """Hand jobs over, one a call; on SLURM as one array.

        Raises:
            InputError: there is no such cluster here, or it refuses the jobs.
        """
        parameters = limits.parameters(self._cluster)
        try:
            executor = self._submitit.AutoExecutor(
                self._folder,
                cluster=self._cluster,
                **{f"{self._cluster}_max_num_timeout": MOST_TIMEOUTS},
            )
            executor.update_parameters(**parameters)
            with executor.batch():
                self.jobs = [executor.submit(Requeued(call)) for call in calls]
        except (RuntimeError, ValueError, NameError, TypeError, OSError) as error:
            said = " ".join(str(error).split())[:300]
            raise InputError(
                f"--submit {self._cluster} does not take the jobs ({said}): check sinfo, "
                "--partition and --slurm, or give --submit local"
            ) from error
        except self._submitit.core.utils.FailedJobError as error:
            said = " ".join(str(error).split())[-300:]
            raise InputError(
                f"SLURM refuses the jobs ({said}): check --partition, --time, --gpus and --slurm"
            ) from error
        record = {"cluster": self._cluster, "jobs": [job.job_id for job in self.jobs]}
        write_whole(self._folder / FILE, json.dumps(record).encode())

    def wait(self, look: Callable[[], None]) -> None:
        """Wait until no job is left; ``look`` is called every second.

        Raises:
            InputError: a job failed; the message names its log.
        """
        while not self.done():
            look()
            time.sleep(POLL)
        look()
        (self._folder / FILE).unlink(missing_ok=True)
        failed = [(job, said) for job in self.jobs if (said := self._said(job))]
        if failed:
            job, said = failed[0]
            raise InputError(
                f"{len(failed)} of {len(self.jobs)} jobs failed, first {job.job_id} ({said}): see "
                f"{job.paths.stderr}; the same command goes on from what is finished"
            )

    def done(self) -> bool:
        """Whether every job has a result, or is gone without one."""
        return all(self._ended(job) for job in self.jobs)

    def _ended(self, job: Any) -> bool:
        """Whether a job has a result that stays.

        A requeue may stop the very process that asks for it, which submitit takes for a failure of
        the job; so that one is believed only of a job that has left the queue.
        """
        if not job.paths.result_pickle.exists():
            return self._lost(job)
        try:
            failed = job.exception() is not None
        except Exception:  # a result that cannot be read
            failed = True
        return not failed or self._lost(job)

    def _lost(self, job: Any) -> bool:
        """Whether a job without result has left the queue; files of other nodes come late."""
        if self._alive(job):
            self._gone.pop(job.job_id, None)
            return False
        since = self._gone.setdefault(job.job_id, time.monotonic())
        return time.monotonic() - since > (LATE if self._cluster == "slurm" else POLL)

    def _alive(self, job: Any) -> bool:
        if self._cluster == "local":
            if job._process is not None:
                return job._process.poll() is None
            return _runs(int(job.job_id))
        # Not submitit's own look, which asks sacct: a cluster need not keep accounts.
        asked = ["squeue", "--noheader", "--format=%i", f"--jobs={job.job_id}"]
        found = subprocess.run(asked, capture_output=True, text=True, check=False)
        unknown = "Invalid job id" in found.stderr
        return bool(found.stdout.strip()) or (found.returncode != 0 and not unknown)

    def _said(self, job: Any) -> str:
        """What went wrong with a job, or nothing."""
        if not job.paths.result_pickle.exists():
            return "it ended without a result"
        try:
            return str(job.result())
        except Exception as error:  # whatever the job died of
            lines = [line for line in str(error).splitlines() if line.strip()]
            return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:300]


def _runs(process: int) -> bool:
    """Whether a process of somebody else's runs; one that has ended but was not asked how, not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _number(value: str) -> int | str:
    return int(value) if value.isdecimal() else value
