"""Settings shared by all tests."""

import pytest
import tally
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    # Targets are tiny: more threads cost time, and make sums depend on the machine.
    torch.set_num_threads(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A skipped test without a reason fails; the others are listed with theirs at the end."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and not _reason(report):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped without saying why: pytest.skip(reason=...)"
    return report


def _reason(report):
    """What a skipped test says; "unconditional skip" is pytest's word for nothing."""
    text = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
    text = text.removeprefix("Skipped").removeprefix(":").strip()
    return "" if text == "unconditional skip" else text


def pytest_terminal_summary(terminalreporter):
    """Say how much hostile and malformed input was tried, and how often it won."""
    if said := tally.lines():
        terminalreporter.section("hostile and malformed input")
        for line in said:
            terminalreporter.write_line(line)
