"""The grokking demo end to end, shortened to a few training steps."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny import complaints, rlct

from llc.checkpoints import find_checkpoints
from llc.cli.main import main
from llc.tasks import modular_addition

# Every step is a checkpoint as long as there are fewer steps than checkpoints.
STEPS, PRIME = 3, 7
RUNS = ("", "control")


def arguments(out, **changed):
    flags = {"steps": STEPS, "prime": PRIME, "out": out, "seed": 0, "workers": 1, **changed}
    return ["demo", "grokking", *(f"--{name}={value}" for name, value in flags.items())]


def contents(folder):
    """Path → (bytes, time of writing) of every file below."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(folder):
    with (folder / "trajectory.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "run"
    done = rlct(*arguments(out))
    assert (done.returncode, complaints(done.stderr)) == (0, [])
    return out, done.stdout


@pytest.fixture
def copied(finished, tmp_path):
    """A copy to work on, with the times of its files."""
    return Path(shutil.copytree(finished[0], tmp_path / "run"))


@pytest.mark.parametrize("run", RUNS)
def test_every_checkpoint_has_a_row(finished, run):
    folder = finished[0] / run
    steps = [checkpoint.step for checkpoint in find_checkpoints(folder / "checkpoints")]
    assert steps == list(range(1, STEPS + 1))
    assert [int(row["step"]) for row in rows(folder)] == steps
    for row in rows(folder):
        assert float(row["llc"]) > 0
        assert 0 < float(row["mcse"]) < float(row["llc"])
        assert row["verdict"] in ("ok", "warn")
        assert 0 <= float(row["test_accuracy"]) <= 1
    assert {path.stem for path in (folder / "estimates").glob("*.json")} == {
        f"{step:07d}" for step in steps
    }


@pytest.mark.parametrize("run", RUNS)
def test_checkpoints_hold_weights_and_numbers_and_nothing_else(finished, run):
    model = modular_addition.task(PRIME).model.state_dict()
    for checkpoint in find_checkpoints(finished[0] / run / "checkpoints"):
        assert checkpoint.path.suffix == ".safetensors"
        # No state of the optimiser: twice the size, and of no use here.
        assert {k: v.shape for k, v in load_file(checkpoint.path).items()} == {
            k: v.shape for k, v in model.items()
        }
        assert {"train_loss", "test_loss", "train_accuracy", "test_accuracy"} <= set(
            checkpoint.metadata
        )


def test_figures_and_records(finished):
    out, _ = finished
    for kind, head in (("pdf", b"%PDF"), ("svg", b"<?xml"), ("png", b"\x89PNG")):
        figure = (out / "figures" / f"trajectory.{kind}").read_bytes()
        assert figure.startswith(head)
        assert len(figure) > 5000
    for run in RUNS:
        record = json.loads((out / run / "run.json").read_text())
        assert record["steps"] == list(range(1, STEPS + 1))
        assert record["settings"]["seed"] == 0
        assert record["settings"]["behavioural"] is True
        assert {"llc", "torch", "numpy"} <= set(record["versions"])
    hidden = [name for name in contents(out) if Path(name).name.startswith(".")]
    leftovers = [name for name in hidden if Path(name).name != ".lock"]
    assert leftovers == []


def test_summary_tells_what_was_seen_and_where_it_is(finished):
    out, said = finished
    for words in (
        f"{STEPS} checkpoints and {STEPS} of the control",
        "verdicts:",
        "modular addition, random labels: LLC",
        "prior-only null",
        f"did not grok within {STEPS} steps",
        str(out / "trajectory.csv"),
        str(out / "figures" / "trajectory.svg"),
    ):
        assert words in said


def test_second_run_reuses_everything(copied, capsys):
    before = contents(copied)
    assert main(arguments(copied)) == 0
    out, err = capsys.readouterr()
    assert f"{STEPS} checkpoints and {STEPS} of the control" in out
    assert err == ""
    after = contents(copied)
    assert {name: seen[0] for name, seen in after.items()} == {
        name: seen[0] for name, seen in before.items()
    }
    kept = [name for name in before if "estimates" in name or "checkpoints" in name]
    assert [name for name in kept if before[name] != after[name]] == []


@pytest.mark.parametrize("changed", [{"seed": 1}, {"prime": 11}, {"steps": 9}])
def test_another_run_in_the_same_folder_is_refused(copied, capsys, changed):
    before = contents(copied)
    assert main(arguments(copied, **changed)) == 2
    out, err = capsys.readouterr()
    (name, value), *_ = changed.items()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert all(word in err for word in (name, f"now {value}", "--out"))
    assert contents(copied) == before


def test_what_is_missing_is_computed_again_to_the_same_numbers(copied, capsys):
    # A lost estimate of the run, and a control that was killed before its training ended.
    lost = copied / "estimates" / "0000002.json"
    before = contents(copied)
    lost.unlink()
    (copied / "control" / "checkpoints" / "training.json").unlink()
    (copied / "control" / "checkpoints" / "step_0000003.safetensors").unlink()
    assert main(arguments(copied)) == 0
    assert capsys.readouterr().err == ""
    after = contents(copied)
    assert set(after) == set(before)
    computed = {name for name in after if "estimates" in name and after[name][1] != before[name][1]}
    assert {Path(name).stem for name in computed} == {"0000002"}
    assert all("control" not in name for name in computed)
    for name, (content, _) in after.items():
        if Path(name).suffix in (".csv", ".npz"):
            assert content == before[name][0], name
