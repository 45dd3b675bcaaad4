"""Settings shared by all tests."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    # Targets are tiny: more threads cost time, and make sums depend on the machine.
    torch.set_num_threads(1)
