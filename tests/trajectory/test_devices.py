"""Processes over several devices: who takes which, with devices that every machine has."""

import time
from dataclasses import replace

import pytest
import torch
from test_trajectory import task
from tiny import FAST, run

import llc
from llc.execution import Execution
from llc.settings import Settings
from llc.trajectory import processes
from llc.trajectory.processes import Processes, devices_for
from llc.trajectory.sources import Item
from llc.trajectory.work import Job, Order

SETTINGS = Settings(**FAST, n_beta=10.0, step_size=0.1)


def order(device="cuda"):
    return Order(task(), "key", SETTINGS, Execution(device), n_eff=False, readings="")


def whose(seconds):
    """In a worker: its device, after a while, so that others get their turn."""
    time.sleep(seconds)
    return processes._placed(order()).execution.device


def test_every_gpu_in_turn_unless_one_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert devices_for(Execution("cuda")) == ("cuda:0", "cuda:1", "cuda:2")
    assert devices_for(Execution("cuda:1")) == ()
    assert devices_for(Execution("cpu")) == ()
    assert devices_for(Execution()) == ()
    assert devices_for(None) == ()


@pytest.mark.parametrize("device", ["cuda", torch.device("cuda")])
def test_a_device_may_be_a_name_or_an_object(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert devices_for(Execution(device)) == ("cuda:0",)


def test_workers_take_devices_round_and_round():
    crew = Processes(order(), 3, ["cpu", "cpu:0"])
    try:
        asked = [crew._pool.submit(whose, 2.0) for _ in range(3)]
        devices = sorted(future.result(60) for future in asked)
    finally:
        crew.close(done=True)
    # The first and the third of three have the first of two.
    assert devices == ["cpu", "cpu", "cpu:0"]


def test_work_is_done_on_the_devices_given():
    step, weights = run()[0]
    crew = Processes(order("cuda"), 1, ["cpu:0"])
    try:
        (outcome,) = crew.submit([Job(Item(step, weights=weights))]).result(60)
    finally:
        crew.close(done=True)
    # On the device it was ordered for, which is not here, there would be none.
    assert outcome.reason == ""
    alone = llc.estimate(replace(task(), model=task().at(weights).model), **FAST, n_beta=10.0,
                         step_size=0.1)  # fmt: skip
    assert outcome.estimate.llc == alone.llc


def test_no_device_of_its_own_leaves_the_order_alone(monkeypatch):
    monkeypatch.setattr(processes, "_own", {})
    given = order("cpu")
    assert processes._placed(given) is given
