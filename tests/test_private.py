"""Models are copied before they are touched; what cannot be copied is refused in one sentence."""

import threading

import pytest
import torch
from tiny import FAST, labelled, linear

import llc
from llc.errors import InputError
from llc.private import private_copy


def test_a_copy_shares_nothing():
    model = linear()
    copy = private_copy(model)
    with torch.no_grad():
        copy.weight += 1
    assert not torch.equal(copy.weight, model.weight)


def test_a_kept_tensor_of_a_pass_is_refused():
    model = linear()
    model.kept = model(labelled()[0]).relu()
    with pytest.raises(InputError, match=r"kept|earlier pass.*torch\.no_grad"):
        private_copy(model)


def test_an_estimate_says_so_too():
    model = linear()
    model.lock = threading.Lock()
    with pytest.raises(InputError, match=r"Linear cannot be copied .*lock"):
        llc.estimate(model, labelled(), "cross_entropy", **FAST)
