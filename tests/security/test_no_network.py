"""Nothing is fetched unless a name of the hub was given, and pages show names as text."""

import socket
import sys

import pytest
import tally
import torch
from tiny import linear

import llc
from llc.cli.main import main

TASK = """
import torch
import llc

def task():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=g)
    y = torch.randint(2, (40,), generator=g)
    return llc.Task(torch.nn.Linear(3, 2), (x, y), "cross_entropy", name=NAME)
"""
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\\"
QUICK = ["--gamma", "1", "--chains", "2", "--draws", "8", "--burn-in", "4", "--step-size", "0.01"]


class Connected(BaseException):
    """No error that anybody would catch."""


@pytest.fixture
def guarded(monkeypatch):
    """Every way out of this process leads to `Connected`; what was tried is kept."""
    tried = []

    def refuse(*given, **_):
        tried.append(given)
        raise Connected(given)

    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)
    return tried


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "net_task.py").write_text(TASK.replace("NAME", repr("mine")))
    (tmp_path / "evil_task.py").write_text(TASK.replace("NAME", repr(EVIL + " $\\frac{$ & $x_1$")))
    (tmp_path / "steps").mkdir()
    for step in range(1, 7):
        torch.save(linear(step).state_dict(), tmp_path / "steps" / f"step_{step}.pt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("net_task", "evil_task"):
        sys.modules.pop(name, None)


def test_no_command_looks_for_a_network(folder, guarded, capsys):
    sampled, ckpt = ["--task", "net_task.py:task", *QUICK], "steps/step_1.pt"
    lines = [
        ["estimate", ckpt, *sampled],
        ["calibrate", ckpt, *sampled, "--out", "settings.json"],
        ["scale", ckpt, "--task", "net_task.py:task", "--gammas", "10,1", "--budget", "400"],
        ["symmetries", ckpt, *sampled, "--no-llc", "--no-count"],
        ["trace", "steps", *sampled, "--out", "run", "--workers", "1"],
        ["refine", "steps/step_1.pt", *sampled, "--out", "parts", "--parts", "../../x=weight",
         "--workers", "1"],
        ["plant", ckpt, *sampled, "--out", "plants", "--exceptions", "0", "--steps", "2",
         "--most-steps", "4", "--workers", "1"],
        ["mix", ckpt, "steps/step_2.pt", *sampled, "--out", "mixed", "--weights", "0", "1",
         "--workers", "1"],
        ["basins", "run", "--count", "2", "--points", "3", "--no-align"],
        ["plot", "run", "-o", "figure.svg"],
        ["report", "run", "-o", "page.html"],
        ["transitions", "run", "--resamples", "2"],
        ["export", "run", "--format", "csv"],
        ["estimate", "hf:steps", "--task", "net_task.py:task"],
        ["estimate", ckpt, "--task", "hf:./steps", "--data", "tokens.npy"],
        ["validate", "--budget", "0"],
        ["demo", "grokking", "--prime", "x"],
        ["fourier", "steps", *sampled[:2]],
    ]  # fmt: skip
    refused = {"symmetries", "hf:steps", "hf:./steps", "validate", "demo", "fourier"}
    for line in lines:
        code = main(line)
        said = capsys.readouterr().err
        tally.count("commands", bad=bool(guarded))
        assert not guarded, line
        # Plants and mixtures of so short runs may fail their verdict, but not their command.
        assert code == (2 if refused & set(line) else 0), (line, said)
    outside = {path.name for path in folder.parent.iterdir()}
    assert "x" not in outside, "a part's name became a path"


def test_the_guard_sees_a_connection(guarded):
    import urllib.request

    with pytest.raises(Connected):
        urllib.request.urlopen("http://localhost:9/")
    assert guarded


def test_a_folder_of_transformers_brings_no_code(folder, guarded):
    pytest.importorskip("transformers")
    import json

    model = folder / "model"
    model.mkdir()
    code = "open('ran', 'w').close()\nclass M: pass\nclass C: pass\n"
    (model / "modeling.py").write_text(code)
    (model / "config.json").write_text(json.dumps({
        "architectures": ["MForCausalLM"], "model_type": "mine",
        "auto_map": {"AutoConfig": "modeling.C", "AutoModelForCausalLM": "modeling.M"},
    }))  # fmt: skip
    llc_save = __import__("safetensors.torch", fromlist=["save_file"]).save_file
    llc_save(linear().state_dict(), model / "model.safetensors")
    with pytest.raises(llc.InputError, match="cannot be loaded"):
        llc.load_weights(f"hf:{model}")
    assert not (folder / "ran").exists()
    assert not guarded


def test_the_page_and_figures_show_names_as_text(folder, capsys):
    line = ["trace", "steps", "--task", "evil_task.py:task", *QUICK, "--out", "run"]
    assert main([*line, "--workers", "1"]) == 0
    assert main(["report", "run", "-o", "page.html"]) == 0
    assert main(["plot", "run", "-o", "figure.svg"]) == 0
    capsys.readouterr()
    page = (folder / "page.html").read_text()
    assert "&lt;script&gt;" in page
    for text in (page, (folder / "figure.svg").read_text()):
        assert "<script" not in text.lower()
        assert "<img" not in text.lower()


def test_what_lies_in_a_run_folder_is_shown_as_text(folder, capsys):
    import json

    line = ["trace", "steps", "--task", "net_task.py:task", *QUICK, "--out", "run"]
    assert main([*line, "--workers", "1"]) == 0
    run = folder / "run"
    (run / "estimates" / "0000003.skipped").write_text(json.dumps(EVIL))
    for mark in (run / "estimates").glob("*.fingerprint"):
        found = json.loads(mark.read_text())
        found["metadata"] = {EVIL: 1.0}
        mark.write_text(json.dumps(found))
    found = json.loads((run / "run.json").read_text())
    found["versions"] = {EVIL: EVIL}
    found["task"] = EVIL
    (run / "run.json").write_text(json.dumps(found))
    assert main(["report", "run", "-o", "page.html"]) == 0
    capsys.readouterr()
    page = (folder / "page.html").read_text().lower()
    assert page.count("&lt;script&gt;") >= 5
    assert "<script" not in page
    assert "<img" not in page
