"""Executors of other libraries: the recipes of docs/scaling.md, where the library is installed."""

import warnings

import pytest
from test_trajectory import task, trace
from tiny import run

import llc


# Its own deprecations and sockets are none of ours.
@pytest.mark.filterwarnings("ignore")
def test_dask(tmp_path):
    distributed = pytest.importorskip("dask.distributed", reason="dask is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            distributed.LocalCluster(
                n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            pool = client.get_executor()
            there = trace(out=tmp_path / "there", executor=pool)
    here = trace(out=tmp_path / "here")
    assert there.steps.tolist() == [step for step, _ in run()]
    assert [p.estimate.llc for p in there.points] == [p.estimate.llc for p in here.points]
    assert isinstance(there, llc.Trajectory)
    assert task().label == there.name
