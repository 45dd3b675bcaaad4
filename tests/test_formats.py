"""Weights in several files, Lightning's or a distributed checkpoint; what is taken off is said."""

import json
import logging
import pickle

import pytest
import torch
from safetensors.torch import save_file
from tiny import FAST, labelled, linear, refusal
from torch.distributed import checkpoint as dcp

import llc
from llc.checkpoints import load_weights, read_checkpoint

WEIGHTS = linear(seed=5).state_dict()


def same(weights):
    return set(weights) == set(WEIGHTS) and all(
        torch.equal(weights[k], WEIGHTS[k]) for k in weights
    )


def task():
    return llc.Task(linear(), labelled(), "cross_entropy")


def sharded(folder, keep=2):
    folder.mkdir(exist_ok=True)
    places = {}
    for number, (name, tensor) in enumerate(WEIGHTS.items(), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        places[name] = file
        if number <= keep:
            save_file({name: tensor}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": places}))
    return index


def test_sharded(tmp_path):
    index = sharded(tmp_path / "checkpoint-30")
    assert same(load_weights(index))
    assert same(load_weights(index.parent))


def test_a_part_that_is_missing(tmp_path):
    assert "model-00002-of-00002" in refusal(lambda: load_weights(sharded(tmp_path, keep=1)))
    index = tmp_path / "model.safetensors.index.json"
    index.write_text("{}")
    assert "weight_map" in refusal(lambda: load_weights(index))


def test_an_index_does_not_reach_out_of_its_folder(tmp_path):
    save_file(WEIGHTS, tmp_path / "secret.safetensors")
    inside = tmp_path / "inside"
    inside.mkdir()
    index = inside / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"weight": "../secret.safetensors"}}))
    assert "is not there" in refusal(lambda: load_weights(index))


def test_a_folder_without_a_model(tmp_path):
    assert "name a file in it" in refusal(lambda: load_weights(tmp_path))


def lightning(path, extra=()):
    torch.save(
        {
            "epoch": 1, "global_step": 30, "pytorch-lightning_version": "2.5.0",
            "state_dict": {**{f"model.{k}": v for k, v in WEIGHTS.items()}, **dict(extra)},
            "loops": {"fit_loop": {"state_dict": {}}}, "callbacks": {}, "lr_schedulers": [],
            "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": []}],
            "hparams_name": "kwargs", "hyper_parameters": {"width": 3},
        },
        path,
    )  # fmt: skip
    return path


@pytest.mark.parametrize("extra", [{}, {"metric.total": torch.ones(1)}])
def test_lightning(tmp_path, caplog, extra):
    path = lightning(tmp_path / "epoch=1-step=30.ckpt", extra)
    weights, known = read_checkpoint(path)
    assert known == {"epoch": 1, "global_step": 30}
    with caplog.at_level(logging.INFO, logger="llc"):
        moved = task().at(weights)
    assert same(moved.model.state_dict())
    assert "'model.'" in caplog.text
    assert ("left out" in caplog.text) == bool(extra)


def test_a_run_of_lightning_files(tmp_path):
    for step in (30, 60):
        lightning(tmp_path / f"epoch=1-step={step}.ckpt")
    found = llc.trace(task(), tmp_path, **FAST)
    assert list(found.steps) == [30, 60]
    assert not found.skipped


@pytest.mark.parametrize(
    ("prefix", "words"),
    [("module.", "DataParallel"), ("_orig_mod.", "torch.compile"), ("module._orig_mod.", "'_orig")],
)
def test_wrappers_prefixes_come_off_and_are_named(tmp_path, caplog, prefix, words):
    torch.save({prefix + k: v for k, v in WEIGHTS.items()}, tmp_path / "step_1.pt")
    with caplog.at_level(logging.INFO, logger="llc"):
        assert same(load_weights(tmp_path / "step_1.pt"))
    assert words in caplog.text
    assert "step_1.pt" in caplog.text


def test_two_networks_under_two_prefixes_are_not_chosen_between():
    both = {f"{n}.{k}": v for n in ("online", "target") for k, v in WEIGHTS.items()}
    assert "4 not in the model" in refusal(lambda: task().at(both))


def saved(state, folder):
    folder.mkdir(parents=True)
    dcp.save(state, storage_writer=dcp.FileSystemWriter(folder), no_dist=True)
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "state",
    [
        WEIGHTS,
        {"model": WEIGHTS},
        {"model": WEIGHTS, "optimizer": {"state": {"weight": {"exp_avg": torch.ones(2, 3)}}}},
        {"model": {f"module.{k}": v for k, v in WEIGHTS.items()}, "step": 12},
    ],
    ids=["flat", "nested", "with optimiser", "wrapped"],
)
def test_distributed_checkpoints(tmp_path, state):
    assert same(load_weights(saved(state, tmp_path / "step_30")))


@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:FutureWarning")
def test_a_run_of_folders(tmp_path):
    for step in (200, 30):
        saved({"model": WEIGHTS}, tmp_path / "distributed" / f"step-{step}")
        sharded_at = tmp_path / "sharded" / f"checkpoint-{step}"
        sharded_at.parent.mkdir(exist_ok=True)
        sharded(sharded_at)
    for kind in ("distributed", "sharded"):
        found = llc.trace(task(), tmp_path / kind, **FAST)
        assert list(found.steps) == [30, 200]
        assert not found.skipped


class Executes:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_distributed_checkpoints_description_executes_nothing(tmp_path):
    mark = tmp_path / "executed"
    (tmp_path / "step_1").mkdir()
    (tmp_path / "step_1" / ".metadata").write_bytes(pickle.dumps(Executes(mark)))
    message = refusal(lambda: load_weights(tmp_path / "step_1"))
    assert "description" in message
    assert not mark.exists()
