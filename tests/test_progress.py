"""What is seen of long work: a bar on a terminal, a line now and then in a log."""

import io
import sys
import time

import pytest

from llc import progress
from llc.progress import Bar, Log
from llc.trajectory.watch import Watch


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_has_lines_soon_and_then_every_five_minutes(clock, capsys):
    with Bar("net") as report:
        for second in range(0, 1200, 10):
            clock[0] = float(second)
            report("draws", second, 1600)
    lines = capsys.readouterr().err.splitlines()
    at = (30, 90, 210, 450, 750, 1050)
    assert lines == [f"net: draws, {done:,} of 1,600 steps" for done in at]


def test_short_work_leaves_a_log_empty(clock, capsys):
    with Bar("net") as report:
        clock[0] = progress.FIRST - 1
        report("draws", 5, None)
    assert capsys.readouterr().err == ""


def test_a_terminal_has_its_bar_and_no_lines(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    log = Log("net")
    clock[0] = 1e6
    log("draws, 5 steps")
    assert terminal.getvalue() == ""


@pytest.mark.parametrize(("given", "lines"), [(True, 1), (None, 0), (lambda *_: None, 0)])
def test_checkpoints_are_counted_where_that_was_asked_for(clock, capsys, given, lines):
    with Watch(given).begin("run", 4) as watch:
        watch(10, None, fresh=False)
        watch(20, None)
        clock[0] = 400.0
        watch(30, None)
        watch(40, None)
    said = capsys.readouterr().err.splitlines()
    assert said == ["run: step 30; 3 of 4 checkpoints, about 3 min left"] * lines


def test_what_workers_have_in_hand_counts_as_half_done(clock, capsys):
    with Watch(True).begin("run", 9, hands=3) as watch:
        clock[0] = 600.0
        watch(10, None)
    assert "1 of 9 checkpoints, about 40 min left" in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "said"), [(40, "40 s"), (720, "12 min"), (12600, "3.5 h")])
def test_durations_are_said_in_the_unit_that_suits(seconds, said):
    assert progress.duration(seconds) == said
