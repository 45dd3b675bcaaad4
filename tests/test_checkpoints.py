"""Checkpoint files of every usual kind are read; what cannot be read safely is refused."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from tiny import FAST, labelled, linear, refusal
from torch import nn

import llc
from llc.checkpoints import (
    Checkpoint,
    find_checkpoints,
    load_weights,
    read_metadata,
    save_checkpoint,
)

WEIGHTS = linear(seed=5).state_dict()


class Tied(nn.Module):
    """Two names for one tensor, of which safetensors files hold one."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(4, 3)
        self.head = nn.Linear(3, 4, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


class Executes:
    """What a malicious file holds: unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def same(weights):
    return list(weights) == list(WEIGHTS) and all(
        torch.equal(weights[name], WEIGHTS[name]) for name in WEIGHTS
    )


def adam_state():
    model = linear()
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    return optimiser.state_dict()


FILES = {
    "step.pt": WEIGHTS,
    "step.pth": WEIGHTS,
    "script.pth": {"model_state_dict": WEIGHTS, "optimizer": {}, "step": 3},
    "adam.pt": {"model": WEIGHTS, "optimizer": adam_state(), "loss": 0.5, "note": "best"},
    "rng.pt": {"state_dict": WEIGHTS, "rng": torch.get_rng_state(), "epoch": 1},
    "ddp.pt": {f"module.{name}": value for name, value in WEIGHTS.items()},
    "compiled.pt": {f"_orig_mod.{name}": value for name, value in WEIGHTS.items()},
    "ddp_compiled.pt": {f"module._orig_mod.{name}": value for name, value in WEIGHTS.items()},
    "compiled_ddp.pt": {f"_orig_mod.module.{name}": value for name, value in WEIGHTS.items()},
    "script_ddp.pt": {"model": {f"module.{name}": value for name, value in WEIGHTS.items()}},
}


@pytest.mark.parametrize(("name", "content"), FILES.items(), ids=FILES)
def test_every_usual_file_gives_the_state_dict(tmp_path, name, content):
    torch.save(content, tmp_path / name)
    assert same(load_weights(tmp_path / name))
    # As text too: what a shell or a config gives.
    assert same(llc.load_weights(str(tmp_path / name)))


def test_safetensors(tmp_path):
    save_file(WEIGHTS, tmp_path / "step.safetensors")
    loaded = load_weights(tmp_path / "step.safetensors")
    assert same({name: loaded[name] for name in WEIGHTS})
    assert read_metadata(tmp_path / "step.safetensors") == {}


def test_a_checkpoint_comes_back_with_its_numbers(tmp_path):
    numbers = {"train_loss": 0.1 + 0.2, "accuracy": 1.0, "bad": float("inf")}
    saved = save_checkpoint(tmp_path, 120, WEIGHTS, numbers)
    assert saved.path == tmp_path / "step_0000120.safetensors"
    assert read_metadata(saved.path) == numbers  # to the last bit
    assert [path.name for path in tmp_path.iterdir()] == [saved.path.name]
    (found,) = find_checkpoints(tmp_path)
    assert (found.step, found.metadata) == (120, numbers)
    assert same({name: found.weights()[name] for name in WEIGHTS})
    assert find_checkpoints(str(tmp_path)) == [Checkpoint(120, saved.path, numbers)]


def test_text_beside_the_numbers_is_no_metadata(tmp_path):
    save_file(WEIGHTS, tmp_path / "1.safetensors", {"format": "pt", "loss": "0.5"})
    assert read_metadata(tmp_path / "1.safetensors") == {"loss": 0.5}


def test_tied_weights_can_be_saved(tmp_path):
    model = Tied()
    saved = save_checkpoint(tmp_path, 1, model.state_dict(), {})
    task = llc.Task(Tied(), (torch.arange(4), torch.arange(4)), "cross_entropy")
    assert torch.equal(task.at(saved.weights()).model.head.weight, model.head.weight)


def test_strided_weights_can_be_saved(tmp_path):
    weight = torch.arange(6.0).reshape(2, 3).T
    saved = save_checkpoint(tmp_path, 2, {"weight": weight}, {})
    assert torch.equal(saved.weights()["weight"], weight)


def test_checkpoints_come_by_step_not_by_name(tmp_path):
    for name in ("run2_step_1000.pt", "run2_step_99.pt", "run2_step_3.pth", ".hidden_7.pt"):
        torch.save(WEIGHTS, tmp_path / name)
    (tmp_path / "notes_5.txt").write_text("no checkpoint")
    assert [c.step for c in find_checkpoints(tmp_path)] == [3, 99, 1000]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a_10.pt", "b_10.pt"], ["a_10.pt", "b_10.pt", "step 10"]),
        (["step_1.pt", "other.pt"], ["other.pt", "step"]),
        (["step_1.pt", "epoch-3.pth"], ["epoch-3.pth", "step_1.pt", "one rule"]),
        ([], ["no checkpoint", ".safetensors"]),
    ],
)
def test_folder_refused(tmp_path, names, words):
    for name in names:
        torch.save(WEIGHTS, tmp_path / name)
    message = refusal(lambda: find_checkpoints(tmp_path))
    assert [word for word in words if word not in message] == []


def test_no_folder(tmp_path):
    assert "nowhere" in refusal(lambda: find_checkpoints(tmp_path / "nowhere"))


BAD_FILES = {
    "other.h5": (b"", [".h5", ".safetensors", "docs/other-formats.md"]),
    "other.bin": (b"", ["other.bin", "not a torch checkpoint"]),
    "text.pt": (b"hello, I am text\n", ["text.pt", "not a torch checkpoint"]),
    "empty.pt": (b"", ["empty.pt", "not a torch checkpoint"]),
    "cut.pt": (b"PK\x03\x04half a zip file", ["cut.pt", "not a torch checkpoint"]),
    "text.safetensors": (b"hello, I am text\n", ["text.safetensors", "not a safetensors"]),
    "empty.safetensors": (b"", ["empty.safetensors", "not a safetensors"]),
    "module.pt": (linear(), ["module.pt", "pickled objects", "state_dict()"]),
    "inside.pt": ({"model": linear()}, ["inside.pt", "pickled objects", "state_dict()"]),
    "two.pt": ({"model": WEIGHTS, "ema": WEIGHTS}, ["2 state dicts", "model", "ema"]),
    "none.pt": ({"step": 3, "loss": 0.1}, ["step, loss", "no state dict", "state_dict()"]),
    "nothing.pt": ({}, ["nothing", "state dict"]),
    "list.pt": ([torch.zeros(2)], ["list", "expected a state dict"]),
    "tensor.pt": (torch.zeros(2), ["Tensor", "expected a state dict"]),
}


@pytest.mark.parametrize(("name", "case"), BAD_FILES.items(), ids=BAD_FILES)
def test_file_refused(tmp_path, name, case):
    content, words = case
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        torch.save(content, tmp_path / name)
    message = refusal(lambda: load_weights(tmp_path / name))
    assert [word for word in words if word not in message] == []


def test_missing_file_and_folder_in_its_place(tmp_path):
    assert "does not exist" in refusal(lambda: load_weights(tmp_path / "step_1.pt"))
    (tmp_path / "folder.pt").mkdir()
    assert "folder.pt" in refusal(lambda: load_weights(tmp_path / "folder.pt"))


@pytest.mark.parametrize("zipped", [True, False])
def test_loading_executes_nothing(tmp_path, zipped):
    path, mark = tmp_path / "step_1.pt", tmp_path / "executed"
    content = {"model": WEIGHTS, "extra": Executes(mark)}
    if zipped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    refusal(lambda: load_weights(path))
    assert not mark.exists()


def task():
    return llc.Task(linear(), labelled(), "cross_entropy")


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"weight": WEIGHTS["weight"]}, ["1 missing (bias)", "Linear"]),
        ({**WEIGHTS, "scale": torch.ones(1)}, ["1 not in the model (scale)"]),
        (
            {**WEIGHTS, "bias": torch.ones(5)},
            ["1 of another shape", "bias is (5,) and should be (2,)"],
        ),
        (
            {f"layer{i}.weight": torch.ones(1) for i in range(9)},
            ["2 missing (weight, bias)", "9 not in the model (layer0.weight", "and 6 more"],
        ),
        ({}, ["2 missing"]),
    ],
)
def test_weights_that_do_not_fit_say_which_and_how_many(weights, words):
    message = refusal(lambda: task().at(weights))
    assert [word for word in words if word not in message] == []
    assert "build the model" in message


def test_at_other_weights_leaves_the_task_alone():
    first = task()
    before = {name: value.clone() for name, value in first.model.state_dict().items()}
    second = first.at(WEIGHTS)
    assert same(second.model.state_dict())
    assert second.data is first.data  # data are not copied for every checkpoint
    with torch.no_grad():
        second.model.weight.zero_()
    assert all(torch.equal(value, before[name]) for name, value in first.model.state_dict().items())
    assert WEIGHTS["weight"].abs().max() > 0


@pytest.mark.parametrize("held", ["embedding.weight", "head.weight"])
def test_one_of_two_tied_names_is_enough(held):
    first = llc.Task(Tied(), (torch.arange(4), torch.arange(4)), "cross_entropy")
    second = first.at({held: torch.full((4, 3), 0.5)})
    assert torch.equal(second.model.head.weight, torch.full((4, 3), 0.5))
    assert second.model.head.weight is second.model.embedding.weight
    # A tied tensor is sampled once.
    assert llc.estimate(second, **{**FAST, "draws": 20}).dimension == 12


def test_buffers_belong_to_the_checkpoint():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    first = llc.Task(model, labelled(), "cross_entropy")
    weights = {**model.state_dict(), "1.running_var": torch.full((4,), 7.0)}
    assert torch.equal(first.at(weights).model[1].running_var, torch.full((4,), 7.0))
    assert torch.equal(model[1].running_var, torch.ones(4))
    del weights["1.running_mean"]
    assert "1.running_mean" in refusal(lambda: first.at(weights))


def test_a_model_of_one_part_called_module_keeps_its_names(tmp_path):
    # Its own prefix is not that of DataParallel.
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = linear()

        def forward(self, inputs):
            return self.module(inputs)

    model = Wrapper()
    torch.save(model.state_dict(), tmp_path / "step_1.pt")
    first = llc.Task(Wrapper(), labelled(), "cross_entropy")
    second = first.at(load_weights(tmp_path / "step_1.pt"))
    assert torch.equal(second.model.module.weight, model.module.weight)
