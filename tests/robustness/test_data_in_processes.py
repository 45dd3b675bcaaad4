"""A task that is not the same in every process, or at every call, is refused by name."""

import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from torch import nn

import llc
from llc.cli.main import main
from llc.cli.tasks import load_task
from llc.maps import scale_map
from llc.trajectory.sameness import Blueprint, Unlike, Witness, refuse_kept

QUICK = {"chains": 2, "draws": 8, "burn_in": 4, "step_size": 0.01}
FLAGS = ["--chains", "2", "--draws", "8", "--burn-in", "4", "--step-size", "0.01"]
HEAD = """
import os, time
from functools import partial
import numpy as np
import torch
from torch import nn
import llc

HERE = os.path.dirname(__file__)
G = torch.Generator().manual_seed(0)
X = torch.randn(40, 5, generator=G)
Y = X.sum(1, keepdim=True)

def touched(outputs, targets):
    "The squared error, which leaves a trace of ever having been called."
    open(os.path.join(HERE, "called"), "a").close()
    return (outputs - targets).square().mean(1)

class Masked(nn.Linear):
    def forward(self, x):
        return super().forward(x * self.mask)

def masked(**given):
    model = Masked(5, 1, bias=False)
    for name, value in given.items():
        setattr(model, name, value)
    return model
"""
TASKS = {
    # What is drawn, the line that draws it, and what the sentence has to name.
    "split": (
        """
    whole = torch.utils.data.TensorDataset(X, Y)
    part, _ = torch.utils.data.random_split(whole, [20, 20])
    return llc.Task(nn.Linear(5, 1, bias=False), part, touched)""",
        ["inputs and targets differ", "every call", "torch.manual_seed(0)", "generator="],
    ),
    "noise": (
        "return llc.Task(nn.Linear(5, 1, bias=False), (X, Y + torch.randn(40, 1)), touched)",
        ["its targets differs", "every call"],
    ),
    "numpy": (
        """
    rows = np.random.default_rng().permutation(40)[:30]
    return llc.Task(nn.Linear(5, 1, bias=False), (X[rows], Y[rows]), touched)""",
        ["inputs and targets differ", "every call", "numpy"],
    ),
    "dictionaries": (
        """
    data = {"x": X, "noise": torch.rand(40)}
    return llc.Task(nn.Linear(5, 1, bias=False), data,
                    batch_loss=lambda m, b: touched(m(b["x"]), b["noise"][:, None]))""",
        ["data['noise'] differs", "every call"],
    ),
    "buffer": (
        """
    model = Masked(5, 1, bias=False)
    model.register_buffer("mask", torch.rand(5).round(), persistent=False)
    model.mask[0] = torch.rand(())
    return llc.Task(model, (X, Y), touched)""",
        ["buffer 'mask' of the model differs", "every call"],
    ),
    "attribute": (
        "return llc.Task(masked(mask=torch.rand(5)), (X, Y), touched)",
        ["attribute 'mask' of the model differs", "every call"],
    ),
    "list": (
        """
    model = masked(mask=1.0)
    model.order = np.random.default_rng().permutation(5000).tolist()
    return llc.Task(model, (X, Y), touched)""",
        ["attribute 'order' of the model differs", "every call"],
    ),
    "closure": (
        """
    weight = torch.rand(1)
    return llc.Task(nn.Linear(5, 1, bias=False), (X, Y), lambda o, t: weight * touched(o, t))""",
        ["'weight' that the loss reads differs", "every call"],
    ),
    "teacher": (
        """
    teacher = nn.Linear(5, 1)
    return llc.Task(nn.Linear(5, 1, bias=False), (X, Y),
                    batch_loss=lambda m, b: touched(m(b[0]), teacher(b[0]).detach()))""",
        ["'teacher'.weight", "'teacher'.bias", "that the loss reads", "every call"],
    ),
    "partial": (
        """
    return llc.Task(nn.Linear(5, 1, bias=False), (X, Y), partial(scaled, by=torch.rand(1)))

def scaled(outputs, targets, by):
    return by * touched(outputs, targets)""",
        ["'by' that the loss reads differs", "every call"],
    ),
    "reading": (
        """
    test = (torch.randn(9, 5), torch.zeros(9, 1))
    return llc.Task(nn.Linear(5, 1, bias=False), (X, Y), touched, readings={"test": test})""",
        ["inputs of the reading 'test' differs", "every call"],
    ),
    "reading's function": (
        """
    test = torch.randn(9, 5)
    readings = {"spread": lambda m: m(test).std()}
    return llc.Task(nn.Linear(5, 1, bias=False), (X, Y), touched, readings=readings)""",
        ["'test' that the reading 'spread' reads differs", "every call"],
    ),
    "time": (
        """
    g = torch.Generator().manual_seed(time.time_ns())
    return llc.Task(nn.Linear(5, 1, bias=False), (torch.randn(40, 5, generator=g), Y), touched)""",
        ["its inputs differs", "every call"],
    ),
    "process": (
        """
    g = torch.Generator().manual_seed(os.getpid())
    return llc.Task(nn.Linear(5, 1, bias=False), (torch.randn(40, 5, generator=g), Y), touched)""",
        ["its inputs differs", "two calls in this process agree", "os.getpid()"],
    ),
    "set": (
        """
    words = list({f"word {k}" for k in range(40)})
    ids = torch.tensor([int(word.split()[1]) for word in words])
    return llc.Task(nn.Linear(5, 1, bias=False), (X[ids], Y), touched)""",
        ["its inputs differs", "two calls in this process agree", "order of a set"],
    ),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in, with equal checkpoints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "steps").mkdir()
    for step in range(4):
        torch.save({"weight": torch.ones(1, 5)}, tmp_path / "steps" / f"step_{step}.pt")
    yield tmp_path
    sys.modules.pop("drawn", None)


def written(folder, body):
    (folder / "drawn.py").write_text(f"{HEAD}\ndef task():\n    {body.strip()}\n")
    return partial(load_task, "drawn.py:task")


def refused(call):
    with pytest.raises(llc.InputError) as caught:
        call()
    sentence = str(caught.value)
    assert len(sentence) < 600
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("name", TASKS)
def test_workers_refuse_what_they_build_otherwise(here, name):
    body, words = TASKS[name]
    task = written(here, body)
    # γ is left open, so that the choice of it would be the first to spend gradients.
    sentence = refused(lambda: llc.trace(task, "steps", workers=2, **QUICK))
    assert all(word in sentence for word in words), sentence
    assert not (here / "called").exists()


def test_a_draw_at_import_is_told_from_one_at_a_call(here):
    body = "return llc.Task(nn.Linear(5, 1, bias=False), (X, Y), weighted)"
    task = written(here, body)
    with (here / "drawn.py").open("a") as file:
        file.write("\nW = torch.rand(1)\ndef weighted(o, t):\n    return W * touched(o, t)\n")
    built = task()
    sentence = refused(lambda: llc.trace(built, "steps", workers=2, gamma=1.0, **QUICK))
    assert "'W' that the loss reads differs" in sentence
    assert "when a module is imported" in sentence
    assert not (here / "called").exists()


def test_on_the_command_line_it_is_one_sentence_and_2(here, capsys):
    written(here, TASKS["split"][0])
    line = ["trace", "steps", "--task", "drawn.py:task", "--out", "run", *FLAGS, "--workers", "2"]
    assert main(line) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("rlct: the task is not the same in every process: its inputs and")
    assert len(said.err.splitlines()) == 1
    # Once it has a seed, the same folder will do, since nothing was made in it.
    written(here, f"torch.manual_seed(0)\n{TASKS['split'][0]}")
    assert main(line) == 0


SEEDED = """
    torch.manual_seed(0)
    noise = torch.randn(40, 1)
    model = masked(mask=torch.rand(5))
    model.register_buffer("unused", torch.rand(3))
    nn.init.normal_(model.weight)
    weight = torch.rand(1)
    data = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset((X - X.mean()) / X.std(), Y + noise), 8, num_workers=0)
    return llc.Task(model, data, lambda o, t: weight * (o - t).square().mean(1),
                    readings={"test": (X, Y)})"""


def test_a_seeded_task_is_taken_and_gives_what_one_process_gives(here):
    task = written(here, SEEDED)
    weights = {"weight": torch.ones(1, 5), "unused": torch.zeros(3)}
    given = [(step, {k: w.clone() for k, w in weights.items()}) for step in range(3)]
    alone = llc.trace(task, given, gamma=1.0, **QUICK)
    many = llc.trace(task, given, workers=2, gamma=1.0, **QUICK)
    assert alone.llc.tolist() == many.llc.tolist()
    assert len(set(alone.llc.tolist())) == 1


def test_weights_and_buffers_that_checkpoints_bring_may_be_drawn(here):
    task = written(
        here,
        """
    model = masked(mask=1.0)
    model.register_buffer("features", torch.randn(5))
    return llc.Task(model, (X, Y), touched)""",
    )
    given = [(k, {"weight": torch.ones(1, 5), "features": torch.ones(5)}) for k in range(2)]
    assert len(llc.trace(task, given, workers=2, gamma=1.0, **QUICK).points) == 2


def test_buffers_that_a_checkpoint_leaves_as_they_are_count():
    model = nn.Linear(2, 1)
    model.register_buffer("features", torch.zeros(2))
    task = llc.Task(model, (torch.ones(3, 2), torch.ones(3, 1)), "mse")
    state = {**model.state_dict(), "features": torch.ones(2)}
    refuse_kept(task, task.at(state), ("features",))
    with pytest.raises(Unlike, match="features"):
        refuse_kept(task, task.at(model.state_dict()), ("features",))


def spawned(count):
    return ProcessPoolExecutor(count, get_context("spawn"))


@pytest.mark.parametrize("workers", [ThreadPoolExecutor, spawned])
def test_executors_of_others_get_the_task_itself(here, workers):
    task = written(
        here, "return llc.Task(nn.Linear(5, 1, bias=False), (X, Y + torch.randn(40, 1)), touched)"
    )
    with workers(2) as executor:
        found = llc.trace(task, "steps", executor=executor, gamma=1.0, **QUICK).llc
    assert np.ptp(found) == 0


def test_executors_of_others_refuse_what_is_drawn_when_they_import(here):
    task = written(here, "return llc.Task(nn.Linear(5, 1, bias=False), (X, Y), weighted)")
    with (here / "drawn.py").open("a") as file:
        file.write("\nW = torch.rand(1)\ndef weighted(o, t):\n    return W * touched(o, t)\n")
    built = task()
    with spawned(1) as executor:
        sentence = refused(lambda: llc.trace(built, "steps", executor=executor, gamma=1.0, **QUICK))
    assert "'W' that the loss reads differs" in sentence
    assert not (here / "called").exists()


def test_shards_refuse_the_draw_of_another(here, capsys):
    written(here, TASKS["split"][0])
    line = ["trace", "steps", "--task", "drawn.py:task", "--out", "run", *FLAGS, "--workers", "1"]
    assert main([*line, "--shard", "1/2", "--gamma", "1"]) == 0
    kept = {p.name: p.read_bytes() for p in (here / "run" / "estimates").iterdir()}
    (here / "called").unlink()
    capsys.readouterr()
    # γ left open: the sentence comes before it is chosen.
    for more in (["--shard", "2/2", "--gamma", "1"], ["--shard", "2/2"], ["--gamma", "1"]):
        assert main([*line, *more]) == 2
        said = capsys.readouterr().err
        assert "begun with another draw of the task: its inputs and targets differ" in said
        assert len(said.splitlines()) == 1
    assert not (here / "called").exists()
    assert {p.name: p.read_bytes() for p in (here / "run" / "estimates").iterdir()} == kept


def test_a_shard_that_comes_while_another_chooses_is_refused(here):
    task = written(here, TASKS["noise"][0])
    first = Blueprint(task)
    folder = llc.trajectory.store.RunFolder(here / "run")
    folder.claim(first.witness, alone=False)  # as the other does before it chooses anything
    sentence = refused(lambda: llc.trace(task, "steps", shard=(2, 2), out=here / "run", **QUICK))
    assert "begun with another draw of the task: its targets differs" in sentence
    assert not (here / "called").exists()


def test_what_was_changed_is_told_from_what_is_drawn(here):
    written(here, "return llc.Task(nn.Linear(5, 1, bias=False), (X, Y), touched)")
    task = partial(load_task, "drawn.py:task")
    llc.trace(task, "steps", out="run", gamma=1.0, **QUICK)
    written(here, "return llc.Task(nn.Linear(5, 1, bias=False), (X, Y + 1), touched)")
    sentence = refused(lambda: llc.trace(task, "steps", out="run", gamma=1.0, **QUICK))
    assert "other data (targets)" in sentence
    assert "drawn anew" not in sentence
    # Other readings are no other task.
    written(here, """return llc.Task(nn.Linear(5, 1, bias=False), (X, Y), touched,
                    readings={"test": (X, Y)})""")  # fmt: skip
    assert "test_loss" in llc.trace(task, "steps", out="run", gamma=1.0, **QUICK).metadata_names


def test_state_of_the_model_is_compared_where_a_run_goes_on(here):
    written(here, "return llc.Task(masked(mask=torch.ones(5)), (X, Y), touched)")
    task = partial(load_task, "drawn.py:task")
    llc.trace(task, "steps", out="run", gamma=1.0, **QUICK)
    written(here, "return llc.Task(masked(mask=torch.zeros(5)), (X, Y), touched)")
    sentence = refused(lambda: llc.trace(task, "steps", out="run", gamma=1.0, **QUICK))
    assert "another task (attribute 'mask' of the model)" in sentence


@pytest.mark.parametrize("far", [False, True])
def test_rounding_is_no_difference(far):
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(5000, 7, generator=g), torch.randn(5000, 1, generator=g)
    noise = torch.randn(5000, 7, generator=g)
    one, other = (
        Witness.of(llc.Task(nn.Linear(7, 1), (values, y), "mse"))
        for values in (x, x + (1e-4 if far else 1e-7) * noise)
    )
    assert one.differences(other) == (("inputs",) if far else ())


def test_each_process_builds_a_task_once():
    calls = []

    def task():
        calls.append(1)
        x = torch.randn(40, 3)
        model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
        return llc.Task(model, (x, torch.randn(40, 1)), "mse")

    weights = task().model.state_dict()
    checkpoints = [(k, {n: w.clone() for n, w in weights.items()}) for k in range(3)]
    calls.clear()
    curves = scale_map(task, checkpoints, gammas=(20.0, 10.0), chains=2, budget=200).curves
    assert len({curve.points[0].llc for curve in curves}) == 1
    assert len(calls) == 1
    calls.clear()
    llc.refine(task, checkpoints, ["0.weight", "1.weight"], gamma=1.0, **QUICK)
    assert len(calls) == 1


def test_scale_maps_of_workers_are_of_one_task(here):
    task = written(here, TASKS["noise"][0])
    with spawned(1) as executor:
        sentence = refused(lambda: scale_map(task, "steps", gammas=(2.0, 1.0), executor=executor))
    assert "its targets differs" in sentence


def test_refine_compares_before_it_chooses(here):
    task = written(here, TASKS["noise"][0])
    sentence = refused(lambda: llc.refine(task, "steps", ["weight"], workers=2, **QUICK))
    assert "its targets differs" in sentence
    assert not (here / "called").exists()


MODULES = """
import warnings
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
import llc

X, Y = torch.ones(8, 4), torch.zeros(8, 1)

def called(model):
    with torch.no_grad():
        model(X)
    return model

def pruned():
    model = nn.Linear(4, 1)
    prune.random_unstructured(model, "weight", 2)
    return called(model)

def tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1))
    model[1].weight = model[0].weight
    model.also = [model[0], model[1]]
    return model

def weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return called(nn.utils.weight_norm(nn.Linear(4, 1)))

KINDS = {
    "batch norm": lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)),
    "recurrent": lambda: nn.LSTM(4, 2),
    "attention": lambda: nn.TransformerEncoderLayer(4, 2, 8),
    "weight norm": weight_norm,
    "new weight norm": lambda: parametrizations.weight_norm(nn.Linear(4, 1)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 1)),
    "pruned": pruned,
    "tied": tied,
    "lazy": lambda: nn.LazyLinear(1),
    "average": lambda: torch.optim.swa_utils.AveragedModel(nn.Linear(4, 1)),
}

def named(kind):
    return llc.Task(KINDS[kind](), (X, Y), "mse")
"""


def differ(blueprint):
    blueprint()


def test_weights_drawn_anew_are_no_difference_in_any_kind_of_module(here):
    (here / "drawn.py").write_text(MODULES)
    sys.path.insert(0, str(here))
    from drawn import KINDS, named

    with spawned(1) as executor:
        for kind in KINDS:
            executor.submit(differ, Blueprint(partial(named, kind))).result()
