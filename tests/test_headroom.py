"""Memory that the C library keeps free goes back to the system."""

import resource
from pathlib import Path

import pytest
import torch

from llc import headroom


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(headroom._gnu() is None, reason="only the GNU C library can be told")
def test_holes_between_small_numbers_are_given_back(monkeypatch):
    monkeypatch.setattr(headroom, "MOST_KEPT_FREE", 2**26)
    monkeypatch.setattr(headroom._Level, "bytes", 0)
    # Below the size from which blocks are fetched one by one, with a pin after each.
    large, pins = [], []
    for _ in range(4000):
        large.append(torch.ones(2**14))
        pins.append(torch.ones(64))
    full = resident()
    del large
    assert headroom.give_back()
    assert resident() < full - 150 * 2**20
    assert not headroom.give_back()
    assert all(pin.sum() == 64 for pin in pins)
