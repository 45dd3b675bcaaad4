# ruff: noqa: E501 - lines of lists
"""Over a thousand malformed inputs through the command line: exit code 2, one sentence each."""

import io
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout

import malformed
import pytest
import tally
import torch
import work
from tiny import linear

from llc.cli.main import main

TASK = """
import torch
import llc

def task():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=g)
    return llc.Task(torch.nn.Linear(3, 2), (x, torch.randint(2, (40,), generator=g)), "cross_entropy")
"""
QUICK = ["--gamma", "1", "--chains", "2", "--draws", "4", "--burn-in", "0", "--step-size", "0.01"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's folder: a task, a checkpoint, a broken one, and a finished run of four."""
    folder = tmp_path_factory.mktemp("malformed")
    (folder / "my_task.py").write_text(TASK)
    (folder / "broken.pt").write_bytes(b"PK\x03\x04 and no more")
    (folder / "steps").mkdir()
    for step in range(1, 5):
        torch.save(linear(step).state_dict(), folder / "steps" / f"step_{step}.pt")
    shutil.copy(folder / "steps" / "step_1.pt", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        line = ["trace", "steps", "--task", "my_task.py:task", *QUICK, "--out", "finished"]
        with redirect_stdout(io.StringIO()):
            assert main([*line, "--workers", "1"]) == 0
    return folder


@pytest.fixture(autouse=True)
def _there(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if not name.startswith(("llc", "torch", "numpy", "scipy", "matplotlib")):
            sys.modules.pop(name, None)


@pytest.fixture
def _parsers_kept(monkeypatch):
    """Parsers built once a command: building them is most of the time of a refused line."""
    parsers = pytest.importorskip("tyro._parsers")
    build, known = parsers.ParserSpecification.from_callable_or_type, {}

    def kept(f, **given):
        key = (repr(f), given.get("intern_prefix"), given.get("prog_suffix"))
        if key not in known:
            known[key] = build(f, **given)
        return known[key]

    monkeypatch.setattr(parsers.ParserSpecification, "from_callable_or_type", staticmethod(kept))


def said(line, *, allowed=(2,)):
    """Run a line; it has to end with an allowed code, and a refusal has to be one sentence.

    Where nothing but a refusal is allowed it comes before any gradient.
    """
    out, err, code, raised = io.StringIO(), io.StringIO(), None, None
    with redirect_stdout(out), redirect_stderr(err), work.none_of_it(allowed == (2,)):
        try:
            code = main(line)
        except BaseException as error:
            raised = error
    text = err.getvalue()
    # Notes on what was done to a checkpoint's names may stand before it.
    lines = [each for each in text.splitlines() if each.strip()]
    clean = raised is None and code in allowed and "Traceback" not in text
    if clean and code == 2:
        clean = bool(lines) and lines[-1].startswith("rlct: ") and len(lines[-1]) > 25
        clean = clean and len(lines) <= 2
    tally.count("command lines", bad=not clean)
    assert clean, (line, code, raised, text[-600:])
    return code


@pytest.mark.usefixtures("_parsers_kept")
@pytest.mark.parametrize("base", malformed.bases(), ids=lambda base: f"{base[0]} {base[1]}")
def test_command_lines(base):
    generator = malformed.seeded(" ".join(base))
    for _ in range(32):
        line = malformed.mutated(base, generator)
        if {"-h", "--help", "--version", "-V"} & set(line):
            continue
        said(line)


@pytest.mark.usefixtures("_parsers_kept")
@pytest.mark.parametrize("flag", [f for group in malformed.OPTIONS.values() for f in group])
def test_values_of_options(flag):
    for value in malformed.VALUES[::3]:
        said(["estimate", "absent.pt", "--task", "my_task.py:task", flag, value])


def test_lines_without_a_parser_kept_from_before():
    for value in malformed.VALUES:
        said([value, "x"] if value not in ("--", "-") else ["estimate", value])


PLANT = ["plant", "step_1.pt", "--exceptions", "1"]
NONSENSE = {
    "demo": [["demo"], ["demo", "nothing"], ["demo", "grokking", "--prime", "x"],
             ["demo", "grokking", "--out", "my_task.py"], ["demo", "linear-net", "--steps", "-1"],
             ["demo", "superposition", "--seed", "-1"], ["demo", "grokking", "--prime", "0"],
             ["demo", "in-context", "--steps", "0"], ["demo", "grokking", "--workers", "0"],
             ["demo", "grokking", "--prime", "4"], ["demo", "linear-net", "--workers", "-3"]],
    "validate": [["validate", "--precision", "-1"], ["validate", "--budget", "0"],
                 ["validate", "--chains", "0"], ["validate", "--sampler", "x"],
                 ["validate", "--out", "my_task.py"], ["validate", "--workers", "0"],
                 ["validate", "--precision", "nan"]],
    "trace": [[*line, "--task", "my_task.py:task"] for line in (
        ["trace", "steps", "--out", "r", "--shard", "3/2"], ["trace", "steps", "--out", "r",
         "--shard", "0/2"], ["trace", "steps", "--out", "r", "--stack", "0"],
        ["trace", "steps", "--out", "r", "--workers", "-1"], ["trace", "steps", "--out", "r",
         "--workers", "0"], ["trace", "steps", "--out", "my_task.py"], ["trace", "steps",
         "--out", "r", "--follow-for", "-1"], ["trace", "steps/*.nothing", "--out", "r"],
        ["trace", "[", "--out", "r"], ["trace", "steps", "--out", "/proc/r"],
        ["trace", "steps", "--out", "steps/step_1.pt/x"], ["trace", "steps", "--out", "a" * 300],
        ["trace", "my_task.py", "--out", "r"], ["trace", "steps", "--out", "finished"],
        ["trace", "steps", "--out", "r", "--batch-size", "41"], ["trace", "steps", "--out", "r",
         "--sampler", "malt", "--batch-size", "4"], ["trace", "steps", "--out", "r", "--stack", "2"],
    )],
    "sound checkpoint": [["estimate", "step_1.pt", "--task", "my_task.py:task", *line] for line in (
        ["--gamma", "0"], ["--gamma", "nan"], ["--gamma", "inf"], ["--n-beta", "-1"],
        ["--n-beta", "inf"], ["--step-size", "-1"], ["--step-size", "nan"], ["--chains", "0"],
        ["--draws", "0"], ["--burn-in", "-1"], ["--batch-size", "0"], ["--batch-size", "41"],
        ["--precision", "0"], ["--precision", "nan"], ["--budget", "0"], ["--seed", "-1"],
        ["--device", "cuda:99"], ["--memory", "-1"],
        ["--memory", "nan"], ["--seconds", "-1"], ["--only", "nothing"], ["--only", "weight[9]"],
        ["--only", "weight["], ["--only", ""], ["--data", "x.npy"], ["--length", "4"],
        ["--preset", "none"], ["--settings", "steps"], ["--settings", "my_task.py"],
        ["--sampler", "hmc", "--batch-size", "4"], ["--gamma", "1e400"],
        ["--chains", "1000000000000"], ["--allow-globals", "os.system"], ["--draws", "9" * 25],
        ["--allow-globals", "x"], ["--only", "heads[0]"], ["--burn-in", "1" * 40],
    )],
    "runs": [
        ["plot", "finished", "--figure", "chains", "--step", "77"],
        ["plot", "finished", "-o", "x.nothing"],
        ["plot", "finished", "--figure", "against", "--x", "nothing"],
        ["plot", "finished", "--figure", "against"], ["plot", "finished", "--figure", "scales"],
        ["plot", "finished", "--control", "absent"], ["plot", "finished", "-o", "/proc/x.pdf"],
        ["report", "finished", "-o", "steps"], ["report", "finished", "-o", "/proc/x.html"],
        ["report", "finished", "--control", "absent"], ["export", "finished", "--format", "xml"],
        ["export", "finished", "--format", "csv", "--out", "/proc/x.csv"],
        ["export", "finished", "--format", "csv", "--out", "steps"],
        ["transitions", "finished", "--resamples", "-1"], ["transitions", "finished", "--seed", "-1"],
        ["transitions", "finished", "--resamples", "0"],
        ["basins", "finished", "--count", "1"], ["basins", "finished", "--points", "0"],
        ["basins", "finished", "--steps", "77"], ["basins", "finished", "--layers", "nothing"],
        ["basins", "finished", "--data", "nothing"], ["basins", "finished", "--device", "warp"],
        ["basins", "finished", "--examples", "0"],
        ["basins", "finished", "--task", "x"], ["basins", "finished", "--count", "-5"],
        ["fourier", "steps", "--task", "my_task.py:task"],
        ["fourier", "steps", "--task", "modular-addition"],
        ["fourier", "finished", "--task", "modular-addition", "--frequencies", "-1"],
    ],
    "places": [[*line, "--task", "my_task.py:task", *QUICK] for line in (
        ["plant", "step_1.pt", "--exceptions", "1", "--out", "/proc/v"],
        ["mix", "step_1.pt", "step_1.pt", "--out", "/proc/v"],
        ["refine", "steps", "--parts", "weight", "--out", "/proc/v"],
    )],
    "parts and variants": [[*line, "--task", "my_task.py:task", "--out", "v", *QUICK] for line in (
        ["refine", "steps", "--parts", "nothing"], ["refine", "steps", "--parts", "=weight"],
        ["refine", "steps", "--parts", "../x=weight", "../x=bias"],
        ["refine", "steps", "--parts", "a=", "b=bias"], ["refine", "steps", "--workers", "0"],
        ["plant", "step_1.pt", "--exceptions", "-1"], ["plant", "step_1.pt", "--exceptions", "41"],
        ["plant", "step_1.pt", "--steps", "-1"], ["plant", "step_1.pt", "--most-steps", "0"],
        ["plant", "step_1.pt", "--learning-rate", "nan"], ["plant", "step_1.pt", "--exceptions"],
        ["plant", "step_1.pt", "--train-batch", "0"], ["plant", "step_1.pt", "--loss-below", "nan"],
        ["plant", "step_1.pt", "--weight-decay", "-1"], ["plant", "step_1.pt", "--exceptions", "1", "1"],
        ["mix", "step_1.pt", "broken.pt"], ["mix", "step_1.pt", "step_1.pt", "--weights", "2"],
        ["mix", "step_1.pt", "step_1.pt", "--weights", "nan"],
        ["mix", "step_1.pt", "step_1.pt", "--weights", "0", "0"], ["mix", "step_1.pt"],
        *([*PLANT, *more] for more in (
            ["--batch-size", "41"], ["--workers", "0"], ["--n-beta", "0"], ["--only", "nothing"],
            ["--sampler", "hmc", "--batch-size", "4"])),
        ["mix", "step_1.pt", "step_1.pt", "--batch-size", "41"], ["mix", "step_1.pt", "step_1.pt",
         "--workers", "0"], ["refine", "steps", "--batch-size", "41"],
        ["refine", "steps", "--parts", "weight", "--workers", "0"],
    )],
    "scales and grids": [[*line, "--task", "my_task.py:task"] for line in (
        ["scale", "step_1.pt", "--gammas", "x"], ["scale", "step_1.pt", "--gammas", "0"],
        ["scale", "step_1.pt", "--gammas", "-1,2"], ["scale", "step_1.pt", "--gammas", ","],
        ["scale", "step_1.pt", "--gammas", "nan"], ["scale", "step_1.pt", "--n-beta", "0"],
        ["scale", "step_1.pt", "--chains", "0"], ["scale", "step_1.pt", "--precision", "-1"],
        ["scale", "step_1.pt", "--budget", "0"], ["scale", "step_1.pt", "--seed", "-1"],
        ["scale", "step_1.pt", "--memory", "0"], ["scale", "step_1.pt", "--only", "x"],
        ["symmetries", "step_1.pt", "--strength", "nan"], ["symmetries", "step_1.pt", "--chains", "0"],
        ["calibrate", "step_1.pt", "--sweep", "--gammas", "-1"],
        ["calibrate", "step_1.pt", "--sweep", "--n-betas", "0"],
        ["calibrate", "step_1.pt", "--sweep", "--step-sizes", "nan"],
        ["calibrate", "step_1.pt", "--sweep", "--cell-budget", "0"],
        ["calibrate", "step_1.pt", "--gammas", "1"], ["calibrate", "step_1.pt", "--out", "steps"],
        ["calibrate", "step_1.pt", "--sweep", "--gammas", "inf"],
        ["calibrate", "step_1.pt", "--sweep", "--gammas", "1", "1"],
        ["calibrate", "step_1.pt", "--sweep", "--cell-budget", "-3"],
        ["calibrate", "step_1.pt", "--sweep", "--out", "my_task.py"],
        ["calibrate", "step_1.pt", "--batch-size", "41"], ["calibrate", "step_1.pt", "--sampler",
         "hmc", "--batch-size", "4"], ["calibrate", "step_1.pt", "--out", "/proc/x.json"],
        ["calibrate", "step_1.pt", "--sweep", "--out", "/proc/x"],
        ["scale", "step_1.pt", "--batch-size", "41"], ["scale", "step_1.pt", "--out", "my_task.py"],
        ["scale", "step_1.pt", "--out", "/proc/x"], ["scale", "step_1.pt", "--gammas", "1"],
        ["symmetries", "step_1.pt", "--batch-size", "41"],
        ["estimate", "step_1.pt", "--audit", "--sampler", "mala"],
        ["estimate", "step_1.pt", "--audit", "--batch-size", "41"],
    )],
}  # fmt: skip


@pytest.mark.usefixtures("_parsers_kept")
@pytest.mark.parametrize("name", NONSENSE)
def test_values_that_make_no_sense(name):
    wrong = []
    for line in NONSENSE[name]:
        try:
            said(line)
        except AssertionError as error:
            wrong.append(str(error)[:900])
    assert not wrong, "\n".join(wrong)


@pytest.mark.usefixtures("_parsers_kept")
def test_files_of_settings(folder):
    generator = malformed.seeded("settings")
    for _ in range(80):
        _, _, text = malformed.settings(generator)
        (folder / "settings.json").write_text(text, errors="surrogateescape")
        # With a checkpoint that is missing: a value that happens to be sound is refused for that.
        said(["estimate", "absent.pt", "--task", "my_task.py:task", "--settings", "settings.json"])


@pytest.mark.usefixtures("_parsers_kept")
def test_task_files(folder):
    wrong = []
    for number, text in enumerate(malformed.TASKS):
        (folder / f"bad_{number}.py").write_text(text, encoding="latin-1")
        try:
            said(["estimate", "step_1.pt", "--task", f"bad_{number}.py:task", *QUICK])
        except AssertionError as error:
            wrong.append(str(error)[:900])
    assert not wrong, "\n".join(wrong)


@pytest.mark.usefixtures("_parsers_kept")
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_checkpoint_files(folder, suffix):
    import safetensors.torch

    path = folder / f"damaged{suffix}"
    if suffix == ".pt":
        torch.save({"model": linear().state_dict(), "step": 3}, path)
    else:
        safetensors.torch.save_file(linear().state_dict(), path)
    whole, generator = path.read_bytes(), malformed.seeded(suffix)
    refused = 0
    for _ in range(60):
        path.write_bytes(malformed.damaged(whole, generator))
        # A changed bit of a weight is no mistake that anybody could see.
        line = ["estimate", path.name, "--task", "my_task.py:task", *QUICK]
        refused += said(line, allowed=(0, 2)) == 2
    assert refused > 40


@pytest.mark.usefixtures("_parsers_kept")
def test_run_folders(folder):
    generator = malformed.seeded("folders")
    whole = folder / "finished"
    files = [p for p in whole.rglob("*") if p.suffix in (".json", ".npz", ".fingerprint", ".csv")]
    refused, wrong = 0, []
    for number in range(90):
        path = generator.choice(files)
        before = path.read_bytes()
        if path.suffix in (".json", ".fingerprint"):
            path.write_bytes(malformed.meddled(before.decode(), generator))
        else:
            path.write_bytes(malformed.damaged(before, generator))
        lines = (
            ["export", "finished", "--format", "csv", "--out", "x.csv"],
            ["transitions", "finished", "--resamples", "2"],
            ["basins", "finished", "--count", "2", "--points", "3", "--no-align"],
        )
        try:
            refused += said(lines[number % 2], allowed=(0, 2)) == 2
        except AssertionError as error:
            wrong.append(f"{path.name}: {path.read_bytes()[:300]!r} {str(error)[-800:]}")
        path.write_bytes(before)
    assert not wrong, "\n".join(wrong)
    assert refused > 20
