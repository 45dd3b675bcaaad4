"""Sharded estimates: two ranks against one, one against the closed form, all under torchrun."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import data, line

SCRIPT = Path(__file__).with_name("ranks.py")
BOTH = ("all", "batches", "behavioural", "single")


@cache
def ranks(count, folder):
    """Results of all cases on so many ranks, in one start of torchrun."""
    out = folder / f"{count}.json"
    cases = [*BOTH, *(["exact"] if count == 1 else ["kept", "borrowed"])]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", count, SCRIPT, out, ",".join(cases), folder / "chains"),
    ]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


pytestmark = pytest.mark.slow


@pytest.mark.parametrize("case", BOTH)
def test_draws_do_not_depend_on_the_number_of_ranks(folder, case):
    one, two = ranks(1, folder)[case], ranks(2, folder)[case]
    near = {"rtol": 1e-3, "atol": 1e-3} if case == "single" else {"rtol": 1e-9, "atol": 1e-11}
    for name in ("trace", "virial_trace", "burn_in", "llc", "null", "stiffness", "baseline"):
        np.testing.assert_allclose(two[name], one[name], **near, err_msg=name)
    assert two["tensors"] == pytest.approx(one["tensors"], rel=1e-3)
    assert np.std(one["trace"]) > 0.1
    assert one["verdict"] == two["verdict"]


def test_the_estimate_is_that_of_the_closed_form(folder):
    found = ranks(1, folder)["exact"]
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


def test_batches_and_all_data_differ(folder):
    found = ranks(1, folder)
    assert found["all"]["trace"] != found["batches"]["trace"]
    assert found["batches"]["heat"] > 0


def test_finished_chains_are_kept(folder):
    kept = ranks(2, folder)["kept"]
    assert kept["second"]["trace"][:1] == kept["first"]["trace"]
    # One chain was run, then one more, then two of another seed.
    first, second, other = kept["looks"]
    assert first > 0
    assert (second, other) == (first, 2 * first)


def test_a_sharded_model_is_given_back_as_it_was(folder):
    found = ranks(2, folder)["borrowed"]
    assert found["same"]
    assert found["stopped"]
    assert found["modes"] == [True, True, False, True]
    # Sampled itself or as a copy: the same numbers.
    np.testing.assert_allclose(found["found"]["trace"], ranks(2, folder)["all"]["trace"], rtol=1e-9)
