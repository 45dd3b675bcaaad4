"""Parts over training: each row of the matrix is the trace of that part."""

import csv
import json
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch
from tiny import FAST, linear, real_valued, refusal, run
from torch import nn

import llc
from llc.checkpoints import save_checkpoint
from llc.cli.main import main
from llc.refined.refine import default_parts
from llc.symmetry import Heads

FILE = """
from tiny import linear, real_valued

import llc


def task():
    return llc.Task(linear(), real_valued(), "mse", name="line")
"""
FLAGS = ["--gamma", "10", "--chains", "2", "--draws", "60", "--burn-in", "40"]


def line():
    return llc.Task(linear(), real_valued(), "mse", name="line")


PARTS = {"first": "weight[0]", "rest": ["weight[1]", "bias"], "all": None}


def test_rows_are_the_traces_of_their_parts():
    found = llc.refine(line(), run(3), PARTS, **FAST)
    assert found.parts == ("first", "rest", "all")
    assert found.dimensions.tolist() == [3, 5, 8]
    assert found.steps.tolist() == [10, 20, 30]
    for row, (part, only) in enumerate(PARTS.items()):
        alone = llc.trace(line(), run(3), only=only, **FAST)
        assert np.array_equal(found.grid()[row], alone.llc)
        assert np.array_equal(found.grid("mcse")[row], alone.mcse)
        assert part in found.table()


def test_one_gamma_is_chosen_for_all():
    given = {k: v for k, v in FAST.items() if k != "gamma"}
    found = llc.refine(line(), run(2), PARTS, **given)
    whole = llc.trace(line(), run(2), **given)
    gammas = {each.settings.gamma for each in found.trajectories.values()}
    assert gammas == {whole.settings.gamma}


def test_a_folder_goes_on_where_it_was(tmp_path):
    first = llc.refine(line(), run(3), PARTS, out=tmp_path, **FAST)
    made = {p: p.stat().st_mtime_ns for p in tmp_path.glob("parts/*/estimates/*.npz")}
    assert len(made) == 9
    gone = next(tmp_path.glob("parts/001_rest/estimates/0000020.fingerprint"))
    gone.unlink()
    again = llc.refine(line(), run(3), PARTS, out=tmp_path, **FAST)
    assert np.array_equal(first.grid(), again.grid())
    changed = [p.name for p, when in made.items() if p.stat().st_mtime_ns != when]
    assert changed == ["0000020.npz"]
    loaded = llc.Refined.load(tmp_path)
    assert np.array_equal(loaded.grid("null"), first.grid("null"))
    assert loaded.name == "line"
    rows = list(csv.DictReader((tmp_path / "refined.csv").read_text().splitlines()))
    assert [float(r["llc"]) for r in rows] == pytest.approx(first.grid().reshape(-1), rel=1e-6)


def test_other_parts_or_settings_of_a_folder_are_refused(tmp_path):
    llc.refine(line(), run(1), PARTS, out=tmp_path, **FAST)
    other = refusal(lambda: llc.refine(line(), run(1), ["weight"], out=tmp_path, **FAST))
    assert "first, rest, all" in other
    changed = {**FAST, "gamma": 20.0}
    assert "other settings" in refusal(
        lambda: llc.refine(line(), run(1), PARTS, out=tmp_path, **changed)
    )


def test_bad_parts_are_refused_before_anything_is_sampled(tmp_path):
    def refined(parts, **given):
        return lambda: llc.refine(line(), run(1), parts, out=tmp_path / "out", **FAST, **given)

    assert "part 'x'" in refusal(refined({"x": "nothing"}))
    assert "empty" in refusal(refined([]))
    assert "twice" in refusal(refined(["bias", "bias"]))
    assert "expected parts" in refusal(refined(["bias"], only="bias"))
    assert not (tmp_path / "out").exists()
    assert "refined.json" in refusal(lambda: llc.Refined.load(tmp_path))


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.read = nn.Linear(4, 1)

    def forward(self, x):
        return self.read(self.attention(x, x, x, need_weights=False)[0].mean(1))


def test_parts_left_open_are_heads_and_the_layers_beside_them():
    data = torch.randn(8, 3, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(8, 1)
    task = llc.Task(TwoLayers(), data, "mse", symmetries=[Heads.packed("attention.", 2, 4)])
    parts = default_parts(task)
    assert parts == {
        "attention[0]": ("attention[0]",),
        "attention[1]": ("attention[1]",),
        "attention.out_proj": ("attention.out_proj.bias",),
        "read": ("read.weight", "read.bias"),
    }


def test_the_matrix_is_drawn_with_its_names_and_numbers(tmp_path):
    found = llc.refine(line(), run(3), PARTS, **FAST)
    for value in ("llc", "per_weight", "saturation"):
        figure = llc.plot.refined(found, value=value)
        (path,) = llc.plot.save(figure, tmp_path / f"{value}.svg")
        assert ET.parse(path).getroot().tag.endswith("svg")
        axes = figure.axes[0]
        assert [t.get_text() for t in axes.get_yticklabels()] == list(found.parts)
        assert [t.get_text() for t in axes.get_xticklabels()] == ["10", "20", "30"]
        assert len(axes.texts) == 9
        shown = np.asarray(axes.images[0].get_array())
        expected = found.grid() if value != "saturation" else found.grid("saturation")
        if value == "per_weight":
            expected = 2 * expected / np.array([[3], [5], [8]])
        assert np.allclose(shown, expected)
        assert "γ = 10" in figure.get_label()
    assert "expected one of" in refusal(lambda: llc.plot.refined(found, value="x"))


def test_the_command_line_writes_table_figure_and_json(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_task.py").write_text(FILE)
    for step, weights in run(2):
        save_checkpoint(tmp_path / "ckpts", step, weights, {})
    command = ["refine", "ckpts", "--task", "my_task.py:task", "--out", "out", *FLAGS,
               "--workers", "1"]  # fmt: skip
    parts = ["--parts", "first=weight[0]", "rest=weight[1]+bias", "all"]
    assert main([*command, *parts]) == 0
    out = capsys.readouterr().out
    expected = llc.refine(line(), run(2), PARTS, **FAST)
    for row in expected.table().splitlines():
        assert row in out
    assert (tmp_path / "out" / "figures" / "refined.png").is_file()
    assert main([*command, *parts, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [p["llc"] for p in record["parts"]["rest"]["points"]] == list(expected.grid()[1])
    assert record["parts"]["first"]["settings"]["only"] == ["weight[0]"]
    assert main([*command[:-2], "--parts", "nothing"]) == 2
    assert "part 'nothing'" in capsys.readouterr().err
    assert main([*command[:-2], "--only", "bias"]) == 2
    assert "expected --parts" in capsys.readouterr().err


def test_only_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_task.py").write_text(FILE)
    save_checkpoint(tmp_path / "ckpts", 10, run(1)[0][1], {})
    (path,) = (tmp_path / "ckpts").glob("*.safetensors")
    given = ["--task", "my_task.py:task", *FLAGS, "--only", "weight[0]", "bias"]
    assert main(["estimate", str(path), *given]) == 0
    out = capsys.readouterr().out
    assert "(5 parameters)" in out
    assert "only        weight[0], bias" in out
    assert main(["calibrate", str(path), *given, "--out", "settings.json"]) == 0
    assert llc.Settings.load("settings.json").only == ("weight[0]", "bias")
    assert "only         weight[0], bias  (as given)" in capsys.readouterr().out
    scale = ["scale", str(path), "--task", "my_task.py:task", "--gammas", "20,10"]
    assert main([*scale, "--json", "--only", "bias"]) == 0
    assert json.loads(capsys.readouterr().out)["points"][0]["dimension"] == 2
    assert main(["trace", "ckpts", "--out", "run", "--workers", "1", *given]) == 0
    assert llc.Trajectory.load("run").settings.only == ("weight[0]", "bias")
