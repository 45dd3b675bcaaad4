"""Settings out of range are refused by name; numbers of any type count as what they are."""

import numpy as np
import pytest
from tiny import FAST, labelled, linear, refusal

import llc

SETTINGS = [
    ("n_beta", 0), ("n_beta", -3.0), ("n_beta", float("nan")), ("n_beta", float("inf")),
    ("gamma", 0.0), ("gamma", -1), ("gamma", "1"), ("gamma", float("inf")),
    ("chains", 0), ("chains", 2.5), ("chains", float("inf")), ("draws", 0),
    ("draws", float("nan")), ("burn_in", -1), ("step_size", -0.1),
    ("precision", 0), ("batch_size", 0), ("budget", 0), ("seed", -1), ("seed", "zero"),
    ("chains", None), ("seed", None), ("precision", None),
]  # fmt: skip


def estimate(**given):
    return llc.estimate(linear(), labelled(), "cross_entropy", **{**FAST, **given})


@pytest.mark.parametrize(("name", "value"), SETTINGS)
def test_setting_out_of_range_is_named_with_its_value(name, value):
    message = refusal(lambda: estimate(**{name: value}))
    assert name in message
    assert repr(value) in message
    assert "expected" in message


@pytest.mark.parametrize("name", ["chains", "draws", "batch_size", "burn_in", "budget", "seed"])
def test_whole_numbers_of_another_type_count_as_themselves(name):
    # From a numpy array, a config file (2.0) or a literal like 1e4.
    given = {"chains": 2, "draws": 60, "batch_size": 8, "burn_in": 40, "budget": 400, "seed": 3}
    if name == "budget":
        given |= {"draws": None, "burn_in": None}
    usual = estimate(**given)
    for kind in (float, np.int64):
        again = estimate(**{**given, name: kind(given[name])})
        assert again.llc == usual.llc
        assert again.settings.to_json() == usual.settings.to_json()


def test_a_numpy_number_is_a_number():
    assert estimate(gamma=np.float32(10)).llc == estimate(gamma=10.0).llc


def test_the_smallest_budget_gives_a_doubtful_number_and_no_warning():
    assert estimate(budget=1, draws=None, burn_in=None).verdict.status == "fail"


def test_unknown_sampler_lists_the_known_ones():
    message = refusal(lambda: estimate(sampler="gibbs"))
    assert all(word in message for word in ("'gibbs'", "kinetic", "sgld"))


def test_unknown_setting_in_a_saved_file():
    message = refusal(lambda: llc.Settings.from_dict({"gama": 1.0}))
    assert "'gama'" in message
    assert "gamma" in message


def test_settings_come_back_from_their_text():
    chosen = estimate().settings
    again = llc.Settings.from_json(chosen.to_json())
    assert again == chosen
    assert again.reasons == chosen.reasons
    assert again.to_json() == chosen.to_json()
    # Printed, each setting has its line, and its reason where it was chosen.
    assert "gamma        10" in str(chosen)
    assert "n/ln n, n = 40" in str(chosen)
