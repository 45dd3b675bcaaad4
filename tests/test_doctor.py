"""``rlct doctor`` says what is there, and notices estimates that are wrong."""

import json
from dataclasses import replace

import llc
from llc.cli.main import main


def test_all_is_well_here(capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert f"llc       {llc.__version__}" in said
    assert said.count("\n  ok  ") == 6
    assert "all is well" in said


def test_wrong_estimates_are_noticed(capsys, monkeypatch):
    estimate = llc.estimate

    def half(*given, **more):
        found = estimate(*given, **more)
        return replace(found, llc=found.llc / 2)

    monkeypatch.setattr(llc, "estimate", half)
    assert main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is False
    assert [c["passed"] for c in found["checks"]][:2] == [False, False]


def test_a_part_that_breaks_is_a_check_that_failed(capsys, monkeypatch):
    def broken(*given, **more):
        raise OSError("no room on the disk")

    monkeypatch.setattr("llc.plot.save", broken)
    assert main(["doctor", "--json"]) == 1
    last = json.loads(capsys.readouterr().out)["checks"][-1]
    assert (last["passed"], last["found"]) == (False, "OSError: no room on the disk")
