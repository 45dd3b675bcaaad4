"""Settings shared by all tests."""

import pytest
import tally
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    # Targets are tiny: more threads cost time, and make sums depend on the machine.
    torch.set_num_threads(1)


def pytest_terminal_summary(terminalreporter):
    """Say how much hostile and malformed input was tried, and how often it won."""
    if said := tally.lines():
        terminalreporter.section("hostile and malformed input")
        for line in said:
            terminalreporter.write_line(line)
