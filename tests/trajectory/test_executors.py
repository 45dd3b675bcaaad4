"""Executors of other libraries: the recipes of docs/scaling.md, where the library is installed.

Their own deprecations, sockets and threads are none of ours, so that warnings are no errors here.
"""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import Executor
from pathlib import Path

import pytest
from test_trajectory import trace
from tiny import run

pytestmark = pytest.mark.filterwarnings("ignore")

SCRIPT = Path(__file__).with_name("over_mpi.py")
HERE = os.pathsep.join(str(Path(__file__).parents[k]) for k in range(3))


def same(steps, llcs, folder):
    alone = trace(out=folder)
    assert steps == [step for step, _ in run()]
    assert llcs == [point.estimate.llc for point in alone.points]


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_dask(tmp_path, processes, monkeypatch):
    distributed = pytest.importorskip("dask.distributed", reason="dask is not installed")
    monkeypatch.setenv("PYTHONPATH", HERE)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=processes, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        there = trace(out=tmp_path / "there", executor=client.get_executor())
    same(there.steps.tolist(), [p.estimate.llc for p in there.points], tmp_path / "here")


@pytest.mark.slow
def test_ray(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="ray is not installed")

    class RayExecutor(Executor):
        def submit(self, fn, /, *args, **kwargs):
            return ray.remote(fn).remote(*args, **kwargs).future()

    monkeypatch.setenv("PYTHONPATH", HERE)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        there = trace(out=tmp_path / "there", executor=RayExecutor())
    finally:
        ray.shutdown()
    same(there.steps.tolist(), [p.estimate.llc for p in there.points], tmp_path / "here")


@pytest.mark.slow
def test_mpi(tmp_path):
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    if shutil.which("mpiexec") is None:
        pytest.skip("no mpiexec on the path")
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    # More processes than cores.
    spare = {"OMPI_MCA_rmaps_base_oversubscribe": "1"}
    command = ["mpiexec", "-n", "3", sys.executable, "-m", "mpi4py.futures", SCRIPT, tmp_path]
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **allowed, **spare, "PYTHONPATH": HERE},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["workers"] == 2
    same(told["steps"], told["llc"], tmp_path / "here")
