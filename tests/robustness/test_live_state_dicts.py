"""State dicts that are the model's own tensors, and change as training goes on."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from test_weights_of_files import DATA, FLAT, INPUTS, Tied, task
from tiny import refusal
from torch import nn

import llc


def live_run(hand_out, steps=5):
    """Train on, and hand each step's weights to a function."""
    model = nn.Linear(3, 1, bias=False)
    nn.init.ones_(model.weight)
    for step in range(steps):
        yield step, hand_out(model.state_dict())
        with torch.no_grad():
            model.weight += 0.1


NORMS = [3**0.5 * (1 + 0.1 * step) for step in range(5)]
"""Of the weights of `live_run`, whose entries are all 1 + step/10."""
LINE = llc.Task(nn.Linear(3, 1, bias=False), DATA, "mse")


@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_state_dicts_that_are_all_the_last_one_are_refused(kind):
    states = kind(live_run(lambda state: state))
    message = refusal(lambda: llc.trace(LINE, states, **FLAT))
    assert "steps 0 and 1 share one storage" in message
    assert "v.clone()" in message
    for call in (llc.basins, llc.scale_map):
        assert "share one storage" in refusal(lambda call=call: call(LINE, states))


def test_state_dicts_under_other_names_are_refused_too():
    prefixed = lambda state: {f"net.{name}": value for name, value in state.items()}
    assert "one storage" in refusal(lambda: llc.trace(LINE, list(live_run(prefixed)), **FLAT))
    one = nn.Linear(3, 1, bias=False).state_dict()
    assert "one storage" in refusal(lambda: llc.trace(LINE, [(0, one), (1, one)], **FLAT))


def test_copies_and_generators_of_live_state_dicts_are_right():
    copied = llc.trace(LINE, list(live_run(copy.deepcopy)), **FLAT)
    assert copied.column("weight_norm") == pytest.approx(NORMS)
    # Three checkpoints are held at once where gamma is chosen, and four by two threads.
    generated = llc.trace(LINE, live_run(lambda state: state), **FLAT)
    assert generated.column("weight_norm") == pytest.approx(NORMS)
    assert list(generated.llc) == list(copied.llc)
    open_ = {k: v for k, v in FLAT.items() if k != "gamma"}
    chosen = llc.trace(LINE, live_run(lambda state: state), **open_)
    assert chosen.column("weight_norm") == pytest.approx(NORMS)
    with ThreadPoolExecutor(2) as pool:
        threads = llc.trace(LINE, live_run(lambda state: state), executor=pool, **FLAT)
    assert threads.column("weight_norm") == pytest.approx(NORMS)


def test_an_iterator_over_a_list_of_live_state_dicts_is_refused():
    kept = list(live_run(lambda state: state))
    assert "3 checkpoints in a row" in refusal(lambda: llc.trace(LINE, iter(kept), **FLAT))


def test_a_copy_keeps_names_of_one_tensor_and_versions():
    def states():
        model = Tied()
        for step in (1, 2):
            yield step, model.state_dict()
            with torch.no_grad():
                model.enc.weight += 1

    found = llc.trace(task(Tied(), (INPUTS, INPUTS)), states(), **FLAT)
    assert not found.skipped
    low, high = found.column("weight_norm")
    assert low != high


def test_frozen_weights_may_be_one_for_all_checkpoints():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    base = model.state_dict()
    head = [torch.full((1, 3), 1.0 + step) for step in range(3)]
    states = [(step, {**base, "1.weight": value}) for step, value in enumerate(head)]
    found = llc.trace(task(model), states, **FLAT)
    frozen = sum(base[k].square().sum().item() for k in ("0.weight", "0.bias", "1.bias"))
    norms = [(frozen + 3 * (1.0 + step) ** 2) ** 0.5 for step in range(3)]
    assert not found.skipped
    assert found.column("weight_norm") == pytest.approx(norms)


def test_rows_of_one_tensor_and_one_dictionary_under_two_of_many_steps_are_fine():
    history = torch.stack([torch.full((1, 3), 1.0 + step / 10) for step in range(5)])
    rows = [(step, {"weight": value}) for step, value in enumerate(history)]
    assert llc.trace(LINE, rows, **FLAT).column("weight_norm") == pytest.approx(NORMS)
    again = llc.trace(LINE, [*rows, (9, rows[0][1])], **FLAT)
    assert again.column("weight_norm")[-1] == pytest.approx(NORMS[0])
