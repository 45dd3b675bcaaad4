"""Sharded estimates: two ranks against one, and under torchrun against the closed form."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import data, line, run
from torch import distributed as dist

SCRIPT = Path(__file__).with_name("ranks.py")
QUICK = ("all", "batches")
MORE = ("behavioural", "single", "kept", "borrowed")


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Results on one rank, which is this process."""
    folder = tmp_path_factory.mktemp("one")
    meeting = (folder / "meeting").as_uri()
    dist.init_process_group("gloo", meeting, rank=0, world_size=1)
    try:
        return {case: run(case, folder / "chains") for case in QUICK + MORE}
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Results on two ranks."""
    return on_two_ranks(tmp_path_factory.mktemp("two"), QUICK)


@pytest.fixture(scope="module")
def two_more(tmp_path_factory):
    """Results of the other cases on two ranks, which wait for each other at every turn."""
    return on_two_ranks(tmp_path_factory.mktemp("two"), MORE)


def on_two_ranks(folder, cases):
    """Run cases in processes that meet in a file."""
    out = folder / "results.json"
    given = [out, ",".join(cases), folder / "chains", (folder / "meeting").as_uri()]
    command = [str(part) for part in (sys.executable, SCRIPT, *given)]
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=600)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)[-3000:]
    return json.loads(out.read_text())


def same(one, two, near):
    for name in ("trace", "virial_trace", "burn_in", "llc", "null", "stiffness", "baseline"):
        np.testing.assert_allclose(two[name], one[name], **near, err_msg=name)
    assert two["tensors"] == pytest.approx(one["tensors"], rel=1e-3)
    assert np.std(one["trace"]) > 0.1
    assert one["verdict"] == two["verdict"]


@pytest.mark.parametrize("case", QUICK)
def test_draws_do_not_depend_on_the_number_of_ranks(one, two, case):
    same(one[case], two[case], {"rtol": 1e-9, "atol": 1e-11})


@pytest.mark.slow
def test_nor_with_the_models_own_outputs_as_targets(one, two_more):
    same(one["behavioural"], two_more["behavioural"], {"rtol": 1e-9, "atol": 1e-11})


@pytest.mark.slow
def test_nor_in_single_precision_but_for_rounding(one, two_more):
    same(one["single"], two_more["single"], {"rtol": 1e-3, "atol": 1e-3})


def test_batches_and_all_data_differ(one):
    assert one["all"]["trace"] != one["batches"]["trace"]
    assert one["batches"]["heat"] > 0


def check_kept(kept):
    assert kept["second"]["trace"][:1] == kept["first"]["trace"]
    # One chain was run, then one more, then two of another seed.
    first, second, other = kept["looks"]
    assert first > 0
    assert (second, other) == (first, 2 * first)


def test_finished_chains_are_kept(one):
    check_kept(one["kept"])


@pytest.mark.slow
def test_finished_chains_are_kept_by_two_ranks(two_more):
    check_kept(two_more["kept"])


def check_borrowed(borrowed, copied):
    assert borrowed["same"]
    assert borrowed["stopped"]
    assert borrowed["modes"] == [True, True, False, True]
    # Sampled itself or as a copy: the same numbers.
    np.testing.assert_allclose(borrowed["found"]["trace"], copied["trace"], rtol=1e-9)


def test_a_sharded_model_is_given_back_as_it_was(one):
    check_borrowed(one["borrowed"], one["all"])


@pytest.mark.slow
def test_a_sharded_model_is_given_back_by_two_ranks(one, two_more):
    check_borrowed(two_more["borrowed"], one["all"])


@pytest.mark.slow
def test_the_estimate_is_that_of_the_closed_form_under_torchrun(tmp_path):
    out = tmp_path / "results.json"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *(SCRIPT, out, "exact", tmp_path),
    ]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(out.read_text())["exact"]
    inputs, _ = data(line())
    # Mean square over three outputs; nβ = n/ln n and γ = 4.
    curvatures = torch.linalg.eigvalsh(2 / 3 * inputs.T @ inputs / len(inputs))
    n_beta = len(inputs) / np.log(len(inputs))
    shares = n_beta * curvatures / (n_beta * curvatures + 4)
    exact = 3 * 0.5 * float(shares.sum())
    assert 0 < found["mcse"] < 0.15
    assert abs(found["llc"] - exact) < 5 * found["mcse"]
    # Under the prior alone nβ·½ tr H/γ, by 32 draws of 15 dimensions.
    null = 3 * 0.5 * float(n_beta * curvatures.sum() / 4)
    assert found["null"] == pytest.approx(null, rel=0.3)
    # h² times the largest curvature of U, h = 0.15.
    largest = n_beta * float(curvatures[-1]) + 4
    assert found["stiffness"] == pytest.approx(0.15**2 * largest, rel=0.02)
    assert found["heat"] == 0
