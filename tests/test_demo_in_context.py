"""The in-context demo end to end, shortened to a few steps and draws."""

import pytest

import llc
from llc.checkpoints import find_checkpoints
from llc.cli.demos import in_context
from llc.cli.main import main


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.setattr(in_context, "DRAWS", 10)
    monkeypatch.setattr(in_context, "BATCH", 4)
    monkeypatch.setattr(in_context, "EVERY", 4)
    return ["demo", "in-context", "--steps", "15", "--out", str(tmp_path / "run"), "--workers", "1"]


def test_the_last_checkpoint_is_estimated_and_kept(command, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(command) == 0
    said = capsys.readouterr().out
    assert [c.step for c in find_checkpoints(out / "checkpoints")] == [10, 11, 13, 15]
    result = llc.Trajectory.load(out)
    assert result.steps.tolist() == [15]
    assert result.settings.behavioural is True
    assert (result.llc > 0).all()
    for words in ("1 checkpoints, 17,857 parameters", "prior-only null: ", "no predictor beats"):
        assert words in said
    kept = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.parent.name != "figures"}
    assert main(command) == 0
    again = {p for p in kept if "checkpoints" in str(p) or "estimates" in str(p)}
    assert {p for p in again if p.stat().st_mtime_ns != kept[p]} == set()
    assert main([*command, "--seed", "1"]) == 2
    assert "seed 0 (now 1)" in capsys.readouterr().err
