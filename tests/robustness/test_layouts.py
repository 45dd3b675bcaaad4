"""Checkpoints as Lightning, Hugging Face, DeepSpeed, Megatron and others lay them out."""

import json
import logging

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import FAST, labelled, linear, refusal

import llc
from llc.checkpoints import find_checkpoints, load_weights
from llc.trajectory.sources import as_items

STEPS = (100, 20, 1000)


def weights(step):
    return linear(seed=step).state_dict()


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content)
    elif path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)


def lightning(run):
    place = run / "lightning_logs" / "version_0"
    put(place / "hparams.yaml", "{}")
    for epoch, step in enumerate(sorted(STEPS)):
        content = {"state_dict": weights(step), "global_step": step, "epoch": epoch}
        put(
            place / "checkpoints" / f"epoch={epoch}-step={step}-val_loss=0.{80 - epoch}.ckpt",
            content,
        )
    put(place / "checkpoints" / "last.ckpt", content)


def trainer(run, name="model.safetensors", state=True):
    for step in STEPS:
        folder = run / f"checkpoint-{step}"
        put(folder / name, weights(step))
        for beside in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
            put(folder / beside, {"state": step})
        put(folder / "config.json", "{}")
        if state:
            put(folder / "trainer_state.json", json.dumps({"global_step": step, "epoch": step / 7}))
    put(run / "training_args.bin", {"lr": 0.1})


def finished_trainer(run):
    trainer(run)
    put(run / "model.safetensors", weights(max(STEPS)))


def deepspeed(run):
    for step in STEPS:
        folder = run / f"global_step{step}"
        content = {
            "module": weights(step),
            "global_steps": step,
            "optimizer": None,
            "ds_version": "0",
        }
        put(folder / "mp_rank_00_model_states.pt", content)
        put(folder / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", {"optimizer_state_dict": {}})
        put(folder / "zero_pp_rank_1_mp_rank_00_optim_states.pt", {"optimizer_state_dict": {}})
    put(run / "latest", f"global_step{max(STEPS)}")
    put(run / "zero_to_fp32.py", "")


def megatron(run):
    import argparse

    for step in STEPS:
        content = {"model": weights(step), "iteration": step, "args": argparse.Namespace(lr=1)}
        put(run / f"iter_{step:07d}" / "mp_rank_00" / "model_optim_rng.pt", content)
        put(run / f"iter_{step:07d}" / "mp_rank_00" / "distrib_optim.pt", {"x": 1})
    put(run / "latest_checkpointed_iteration.txt", str(max(STEPS)))


def imagenet(run):
    for step in STEPS:
        put(run / f"checkpoint_{step}.pth.tar", {"epoch": step, "state_dict": weights(step)})
    put(run / "model_best.pth.tar", {"epoch": step, "state_dict": weights(step)})


def accelerate(run):
    for step in STEPS:
        put(run / f"step_{step}" / "model.safetensors", weights(step))
        put(run / f"step_{step}" / "optimizer.bin", {"x": 1})
        put(run / f"step_{step}" / "random_states_0.pkl", "")


def sharded_pickles(run):
    for step in STEPS:
        folder, places = run / f"checkpoint-{step}", {}
        for number, (name, tensor) in enumerate(weights(step).items(), 1):
            places[name] = f"pytorch_model-0000{number}-of-00002.bin"
            put(folder / places[name], {name: tensor})
        put(folder / "pytorch_model.bin.index.json", json.dumps({"weight_map": places}))


LAYOUTS = {
    "lightning": lightning,
    "hugging face": trainer,
    "hugging face, pickled": lambda run: trainer(run, "pytorch_model.bin"),
    "hugging face, without a state": lambda run: trainer(run, state=False),
    "hugging face, adapters": lambda run: trainer(run, "adapter_model.safetensors"),
    "hugging face, with the last": finished_trainer,
    "deepspeed": deepspeed,
    "megatron": megatron,
    "imagenet example": imagenet,
    "accelerate": accelerate,
    "pickles in parts": sharded_pickles,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_folder_of_a_run(tmp_path, name):
    LAYOUTS[name](tmp_path / "run")
    items = list(as_items(tmp_path / "run"))
    assert [item.step for item in items] == sorted(STEPS)
    for item in items:
        found, _ = item.read()
        assert {k: w.tolist() for k, w in found.items()} == {
            k: w.tolist() for k, w in weights(item.step).items()
        }
    assert [c.step for c in find_checkpoints(tmp_path / "run")] == sorted(STEPS)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("hugging face", "checkpoint-*"),
        ("hugging face, pickled", "checkpoint-*"),
        ("hugging face", "checkpoint-*/*"),
        ("hugging face", "**"),
        ("pickles in parts", "checkpoint-*"),
        ("deepspeed", "global_step*"),
        ("megatron", "iter_*"),
        ("megatron", "iter_*/mp_rank_00/model_optim_rng.pt"),
        ("lightning", "lightning_logs/version_0/checkpoints/*.ckpt"),
        ("imagenet example", "*.pth.tar"),
    ],
)
def test_patterns_and_lists(tmp_path, name, pattern):
    LAYOUTS[name](tmp_path / "run")
    assert [i.step for i in as_items(str(tmp_path / "run" / pattern))] == sorted(STEPS)
    listed = sorted(map(str, (tmp_path / "run").glob(pattern)))
    if pattern.count("*") == 1:
        assert [i.step for i in as_items(listed)] == sorted(STEPS)
    if name in ("hugging face", "deepspeed", "megatron") and pattern.count("*") == 1:
        # One by one too, in the order in which they come.
        found = {str(i.step) for i in as_items(iter(listed))}
        assert found == set(map(str, STEPS))


@pytest.mark.parametrize(
    ("name", "one"),
    [
        ("hugging face", "checkpoint-20"),
        ("hugging face, pickled", "checkpoint-20"),
        ("hugging face", "checkpoint-20/model.safetensors"),
        ("deepspeed", "global_step20"),
        ("deepspeed", "global_step20/mp_rank_00_model_states.pt"),
        ("megatron", "iter_0000020"),
        ("megatron", "iter_0000020/mp_rank_00"),
        ("pickles in parts", "checkpoint-20"),
        ("imagenet example", "checkpoint_20.pth.tar"),
    ],
)
def test_one_checkpoint_by_its_folder_or_file(tmp_path, name, one):
    LAYOUTS[name](tmp_path)
    assert torch.equal(load_weights(tmp_path / one)["weight"], weights(20)["weight"])
    assert [item.step for item in as_items(tmp_path / one)] == [20]


def test_a_traced_run_of_folders(tmp_path, caplog):
    finished_trainer(tmp_path / "run")
    task = llc.Task(linear(), labelled(), "cross_entropy")
    with caplog.at_level(logging.INFO, logger="llc"):
        found = llc.trace(task, str(tmp_path / "run"), **FAST)
    assert found.steps.tolist() == sorted(STEPS)
    alone = llc.estimate(task.at(weights(20)), **FAST)
    assert found.points[0].estimate.llc == alone.llc


def test_one_file_of_several_model_files_is_taken_by_its_content(tmp_path):
    put(tmp_path / "run" / "a.bin", weights(1))
    assert torch.equal(load_weights(tmp_path / "run" / "a.bin")["weight"], weights(1)["weight"])
    # Beside the usual files .bin is anything, as it was before.
    put(tmp_path / "run" / "step_3.pt", weights(3))
    put(tmp_path / "run" / "vocabulary.bin", "x")
    assert [item.step for item in as_items(tmp_path / "run")] == [3]


def test_names_that_only_begin_like_an_optimisers(tmp_path):
    for step in (1, 2):
        put(tmp_path / f"optimal_{step}.pt", weights(step))
    assert [item.step for item in as_items(tmp_path)] == [1, 2]


def test_arrays_by_name(tmp_path):
    for step in (5, 30):
        np.savez(tmp_path / f"step_{step}.npz", **{k: w.numpy() for k, w in weights(step).items()})
    assert torch.equal(load_weights(tmp_path / "step_5.npz")["weight"], weights(5)["weight"])
    assert [item.step for item in as_items(str(tmp_path / "step_*.npz"))] == [5, 30]
    # A folder's arrays may be its data: they are named, not found.
    assert "holds no checkpoint" in refusal(lambda: list(as_items(tmp_path)))
    np.savez(tmp_path / "bad.npz", w=np.array([{}], dtype=object))
    assert "pickled objects" in refusal(lambda: load_weights(tmp_path / "bad.npz"))


# What cannot be taken says what to do


def test_several_runs_of_lightning(tmp_path):
    lightning(tmp_path)
    other = tmp_path / "lightning_logs" / "version_1" / "checkpoints"
    put(other / "epoch=0-step=5.ckpt", {"state_dict": weights(1), "global_step": 5})
    message = refusal(lambda: list(as_items(tmp_path)))
    assert "2 runs" in message
    assert "version_0" in message
    assert len(list(as_items(tmp_path / "lightning_logs" / "version_1"))) == 1


def test_parts_of_a_model_are_not_taken_for_checkpoints(tmp_path):
    deepspeed(tmp_path / "a")
    folder = tmp_path / "a" / "global_step20"
    put(folder / "mp_rank_01_model_states.pt", {"module": weights(1)})
    for call in (lambda: list(as_items(tmp_path / "a")), lambda: load_weights(folder)):
        assert "2 model-parallel parts" in refusal(call)
    megatron(tmp_path / "b")
    folder = tmp_path / "b" / "iter_0000020"
    put(folder / "mp_rank_01" / "model_optim_rng.pt", {"model": weights(1)})
    for call in (lambda: list(as_items(tmp_path / "b")), lambda: load_weights(folder)):
        assert "2 model-parallel parts" in refusal(call)
    deepspeed(tmp_path / "c")
    folder = tmp_path / "c" / "global_step20"
    put(folder / "zero_pp_rank_0_mp_rank_00_model_states.pt", {"module": {}})
    for call in (lambda: list(as_items(tmp_path / "c")), lambda: load_weights(folder)):
        assert "zero_to_fp32.py" in refusal(call)


def test_folders_without_weights_are_said_to_be_left_out(tmp_path, caplog):
    trainer(tmp_path)
    put(tmp_path / "checkpoint-5000" / "optimizer.pt", {"x": 1})
    with caplog.at_level(logging.INFO, logger="llc"):
        assert len(list(as_items(str(tmp_path / "checkpoint-*")))) == 3
    assert "checkpoint-5000 holds 0 checkpoints" in caplog.text


@pytest.mark.parametrize(
    "name",
    ["a.msgpack", "a.onnx", "a.gguf", "a.h5", "a.keras", "a.zip", "a.npy", "orbax", "tf"],
)
def test_files_of_other_libraries_point_to_the_page(tmp_path, name):
    if name == "orbax":
        put(tmp_path / name / "_METADATA", "{}")
    elif name == "tf":
        put(tmp_path / name / "checkpoint", "")
    else:
        put(tmp_path / name, "x")
    message = refusal(lambda: load_weights(tmp_path / name))
    assert "docs/other-formats.md" in message
