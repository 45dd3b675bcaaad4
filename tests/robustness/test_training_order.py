"""The step of a checkpoint is never a metric, a date, a version, a seed or a count of tokens."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import FAST, labelled, linear, refusal, rlct

import llc
from llc.checkpoints import find_checkpoints
from llc.cli.main import main
from llc.ordering.names import after
from llc.trajectory.follow import follow
from llc.trajectory.sources import as_items, items_of_paths

WEIGHTS = [linear(seed=k).state_dict() for k in range(4)]


def by_name(*names, step_from=None):
    """Steps of files that do not exist, in the order of the names given."""
    found = items_of_paths([Path(name) for name in names], "names", step_from)
    steps = {str(item.path): item.step for item in found}
    return [steps[name] for name in names]


def saved(folder, files):
    """Files with what they hold beside weights, each with weights of its own."""
    folder.mkdir(exist_ok=True)
    for number, (name, beside) in enumerate(files.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        weights = WEIGHTS[beside.pop("weights", number % 4)]
        torch.save({"state_dict": weights, **beside}, folder / name)
    return folder


def steps(folder, **given):
    found = list(as_items(folder, **given))
    assert [item.step for item in found] == sorted(item.step for item in found)
    return {str(item.path.relative_to(folder)): item.step for item in found}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["epoch=0-val_loss=1.20.ckpt", "epoch=1-val_loss=0.80.ckpt"], [0, 1]),
        (
            ["epoch=1-step=200-val_loss=0.80.ckpt", "epoch=0-step=100-val_loss=0.90.ckpt"],
            [200, 100],
        ),
        (["step_500.pt", "step_1k.pt", "step_10k.pt"], [500, 1000, 10_000]),
        (["step_1e3.pt", "step_5e2.pt", "step=2.5k.pt", "step_1M.pt"], [1000, 500, 2500, 10**6]),
        (["1e3.pt", "2e3.pt"], [1000, 2000]),
        (["step_1,000.pt", "step_999.pt"], [1000, 999]),
        (["warmup_steps=500-step=10.pt", "warmup_steps=500-step=20.pt"], [10, 20]),
        (["epoch_1/epoch_1.pt", "epoch_2/epoch_2.pt"], [1, 2]),
        (["step1000-tokens4B.pt", "step2000-tokens8B.pt"], [1000, 2000]),
        (["hf:a/b@step1000-tokens4B", "hf:a/b@step2000-tokens8B"], [1000, 2000]),
        (["rl_model_100000_steps.pt", "rl_model_20000_steps.pt"], [100_000, 20_000]),
        (["2024-01-05_step_20.pt", "2024-01-06_step_10.pt"], [20, 10]),
        (["m_100_seed0.pt", "m_20_seed0.pt"], [100, 20]),
        (["net_v2_10.pt", "net_v2_20.pt"], [10, 20]),
        (["model_10_loss_0.5.pt", "model_20_loss_0.4.pt"], [10, 20]),
        (["resnet50_10.pth", "resnet50_9.pth"], [10, 9]),
        (["iter-10.pth.tar", "iter-9.pth.tar"], [10, 9]),
        (["epoch_5_acc_91.pt", "epoch_6_acc_90.pt"], [5, 6]),
        (["run2_step_1000.pt", "run2_step_99.pt"], [1000, 99]),
        (["checkpoint-100/model.safetensors", "checkpoint-20/model.safetensors"], [100, 20]),
        (["iter_0000100/mp_rank_00/model_optim_rng.pt"], [100]),
        (["step_0001000.safetensors", "step_0000010.safetensors"], [1000, 10]),
        (["step_20240105.pt", "step_20240201.pt"], [20240105, 20240201]),  # a number of steps
    ],
)
def test_right_order_by_name(names, expected):
    assert by_name(*names) == expected


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["model_2024-01-05.pt", "model_2024-02-03.pt"], ["date"]),
        (["model_20240105_1230.pt", "model_20240203_1000.pt"], ["date"]),
        (["checkpoint-20240105.pt", "checkpoint-20240203.pt"], ["date"]),
        (["val_loss=0.33.ckpt", "val_loss=0.20.ckpt"], ["--step-from"]),
        (["net_acc_91.pt", "net_acc_90.pt"], ["acc (91, 90)", "--step-from"]),
        (["net_seed1.pt", "net_seed2.pt"], ["seed (1, 2)", "--step-from"]),
        (["seed1_step_100.pt", "seed2_step_200.pt"], ["seed (1, 2)", "one run"]),
        (["version_0/step=5.ckpt", "version_1/step=15.ckpt"], ["version (0, 1)", "one run"]),
        (["hf:a/b@stage1-step900", "hf:a/b@stage2-step100"], ["stage (1, 2)"]),
        (["tokens4B.pt", "tokens8B.pt"], ["tokens", "--step-from"]),
        (["model_3_100.pt", "model_4_50.pt"], ["(3, 4)", "number 2 (100, 50)", "--step-from"]),
        (["step_10.pt", "epoch_3.pt"], ["one rule"]),
        (["warmup_steps=500-step=1000.pt"], ["(500)", "(1000)", "--step-from"]),
        (["step_1-step_20.pt", "step_2-step_10.pt"], ["(1, 2)", "(20, 10)", "--step-from"]),
        (["step_1-iter_20.pt", "step_2-iter_10.pt"], ["'step'", "'iteration'", "--step-from"]),
        (["hf:EleutherAI/pythia-70m"], ["hf:NAME@step{0,1,2}"]),
        (["step_999.pt", "step_1_000.pt"], ["step_1_000.pt"]),
        (["epoch=0-step=900.pt", "epoch=1-step=100.pt"], ["(900, 100)", "(0, 1)", "--step-from"]),
        (["ckpt_3f2a91.pt", "ckpt_77bc01.pt"], ["--step-from"]),
        (["model_1704412800.pt", "model_1704416800.pt"], ["1704412800", "--step-from"]),
        (["hf:a/b@main", "hf:a/b@step5"], ["hf:a/b@main"]),
        (["x.pt", "y.pt"], ["no training step"]),
    ],
)  # fmt: skip
def test_what_is_no_step_is_refused_with_what_decides(names, words):
    message = refusal(lambda: by_name(*names))
    assert [word for word in words if word not in message] == []
    assert len(message) < 400


@pytest.mark.parametrize(
    ("names", "step_from", "expected"),
    [
        (["model_3_100.pt", "model_4_50.pt"], "2", [100, 50]),
        (["model_3_100.pt", "model_4_50.pt"], "model", [3, 4]),
        (["epoch=0-step=900.pt", "epoch=1-step=100.pt"], "epoch", [0, 1]),
        (["epoch=0-step=900.pt", "epoch=1-step=100.pt"], "name:step", [900, 100]),
        (["hf:a/b@step1-tokens4B", "hf:a/b@step2-tokens8B"], "tokens", [4 * 10**9, 8 * 10**9]),
        (["net_seed1.pt", "net_seed2.pt"], "seed", [1, 2]),
    ],
)
def test_the_flag_decides(names, step_from, expected):
    assert by_name(*names, step_from=step_from) == expected


@pytest.mark.parametrize("wrong", ["loss", "here:there", "name:", "9", "file"])
def test_a_flag_that_finds_nothing(wrong):
    assert "step" in refusal(lambda: by_name("a_1.pt", "a_2.pt", step_from=wrong))


# What files say


def test_the_file_wins_and_the_log_says_so(tmp_path, caplog):
    named = {
        f"epoch={k}-val_loss={loss}.ckpt": {"epoch": k, "global_step": 100 * (k + 1)}
        for k, loss in enumerate(("7.07", "0.20", "0.55", "0.80"))
    }
    assert list(steps(saved(tmp_path / "a", named)).values()) == [100, 200, 300, 400]
    contrary = {"step_1.pt": {"global_step": 700}, "step_2.pt": {"global_step": 300}}
    with caplog.at_level(logging.INFO, logger="llc"):
        assert steps(saved(tmp_path / "b", contrary)) == {"step_2.pt": 300, "step_1.pt": 700}
    assert "--step-from name" in caplog.text
    assert list(steps(tmp_path / "b", step_from="name").values()) == [1, 2]


@pytest.mark.parametrize("key", ["global_step", "step", "iteration", "iter", "iter_num", "epoch"])
@pytest.mark.parametrize("kind", ["int", "numpy", "tensor", "safetensors", "old", "npz"])
def test_every_key_in_every_kind_of_file(tmp_path, key, kind):
    for name, number in (("a", 30), ("b", 7)):
        value = {"int": int, "numpy": np.int64, "tensor": torch.tensor, "old": int}.get(kind, str)
        if kind == "safetensors":
            save_file(WEIGHTS[0], tmp_path / f"{name}.safetensors", {key: value(number)})
        elif kind == "npz":
            arrays = {k: w.numpy() for k, w in WEIGHTS[0].items()}
            np.savez(tmp_path / f"{name}.npz", **arrays, **{key: number})
        else:
            torch.save(
                {"model": WEIGHTS[0], key: value(number)}, tmp_path / f"{name}.pt",
                _use_new_zipfile_serialization=kind != "old",
            )  # fmt: skip
    found = list(as_items(str(tmp_path / "*.npz") if kind == "npz" else tmp_path))
    assert [(item.step, item.path.stem) for item in found] == [(7, "b"), (30, "a")]
    assert set(found[0].read()[0]) == set(WEIGHTS[0])


def test_epochs_with_steps_per_epoch(tmp_path):
    files = {f"{n}.pt": {"epoch": k, "steps_per_epoch": 50} for k, n in enumerate("cab")}
    assert steps(saved(tmp_path, files)) == {"c.pt": 0, "a.pt": 50, "b.pt": 100}


def test_a_step_that_begins_anew_in_each_epoch_is_not_the_order(tmp_path):
    files = {"a.pt": {"epoch": 0, "step": 900}, "b.pt": {"epoch": 1, "step": 100}}
    message = refusal(lambda: steps(saved(tmp_path, files)))
    assert "step in the file (900, 100)" in message
    assert "epoch in the file (0, 1)" in message
    assert steps(tmp_path, step_from="epoch") == {"a.pt": 0, "b.pt": 1}


def test_a_number_that_never_changes_is_not_the_step(tmp_path):
    # The step of a learning rate's schedule, say.
    files = {f"step_{k}.pt": {"step": 30, "epoch": 5} for k in (1, 2, 3)}
    assert list(steps(saved(tmp_path / "a", files)).values()) == [1, 2, 3]
    # Of names without a word it is all there is: two runs at one step, perhaps.
    files = {f"x{k}.pt": {"global_step": 30} for k in (1, 2)}
    assert "both step 30" in refusal(lambda: steps(saved(tmp_path / "b", files)))


def test_some_files_with_a_step_and_some_without(tmp_path):
    message = refusal(lambda: steps(saved(tmp_path, {"a.pt": {"step": 3}, "b.pt": {}})))
    assert "b.pt" in message
    assert "a.pt has 3" in message


def test_a_file_that_cannot_be_read_leaves_the_names(tmp_path, caplog):
    folder = saved(tmp_path, {f"epoch=0-step={k}.ckpt": {"global_step": k} for k in (10, 20, 30)})
    whole = (folder / "epoch=0-step=20.ckpt").read_bytes()
    (folder / "epoch=0-step=20.ckpt").write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.INFO, logger="llc"):
        assert list(steps(folder).values()) == [10, 20, 30]
    assert "epoch=0-step=20.ckpt has no global_step" in caplog.text


# Second copies


def test_copies_of_the_same_weights_are_left_out(tmp_path, caplog):
    files = {
        "epoch=0-step=100.ckpt": {"global_step": 100, "weights": 0},
        "epoch=1-step=200.ckpt": {"global_step": 200, "weights": 1},
        "epoch=1-step=200-v1.ckpt": {"global_step": 200, "weights": 1},
        "last.ckpt": {"global_step": 200, "weights": 1},
        "best.ckpt": {"weights": 0},
    }
    with caplog.at_level(logging.INFO, logger="llc"):
        found = steps(saved(tmp_path, files))
    assert found == {"epoch=0-step=100.ckpt": 100, "epoch=1-step=200.ckpt": 200}
    assert all(f"{name}.ckpt holds the weights of" in caplog.text for name in ("last", "best"))
    assert [c.step for c in find_checkpoints(tmp_path)] == [100, 200]


def test_copies_of_other_weights_are_refused_by_name(tmp_path):
    files = {"step_10.pt": {"step": 10}, "step_20.pt": {"step": 20}, "last.pt": {"step": 20}}
    message = refusal(lambda: steps(saved(tmp_path / "a", files)))
    assert "step_20.pt and last.pt are both step 20, and their weights differ" in message
    files = {"step_10.pt": {}, "step_20.pt": {}, "best.pt": {}}
    assert "best.pt has no training step" in refusal(lambda: steps(saved(tmp_path / "b", files)))
    # What is no copy by its name is not looked into.
    files = {"a_5.pt": {"weights": 0}, "b_5.pt": {"weights": 0}}
    assert "both step 5" in refusal(lambda: steps(saved(tmp_path / "c", files)))


def test_a_last_that_went_further_is_a_checkpoint(tmp_path):
    files = {"step=10.ckpt": {"global_step": 10}, "last.ckpt": {"global_step": 15}}
    assert steps(saved(tmp_path, files)) == {"step=10.ckpt": 10, "last.ckpt": 15}


def test_a_link_is_no_checkpoint_of_its_own(tmp_path):
    saved(tmp_path, {"step_10.pt": {}, "step_20.pt": {}})
    (tmp_path / "latest.pt").symlink_to(tmp_path / "step_20.pt")
    assert steps(tmp_path) == {"step_10.pt": 10, "step_20.pt": 20}


# Cheap


def test_no_weights_are_read_for_the_order(tmp_path, monkeypatch):
    saved(tmp_path, {"x.ckpt": {"global_step": 5}, "y.ckpt": {"global_step": 3}})
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("weights are read"))
    assert steps(tmp_path) == {"y.ckpt": 3, "x.ckpt": 5}


def test_words_are_found_wherever_they_stand():
    for text in ("step_5", "step=5", "step5", "a-step-5", "globalstep5", "5_steps", "x/step.5"):
        assert after(text, "step") == [5], text
    assert after("deep_5", "epoch") == after("footstep_5", "step") == []


# Where it is used


def test_traced_by_the_right_steps(tmp_path, capsys, monkeypatch):
    files = {
        f"epoch={k}-val_loss={loss}.ckpt": {"epoch": k, "global_step": 100 * (k + 1)}
        for k, loss in enumerate(("7.07", "0.20", "0.55"))
    }
    saved(tmp_path / "in", files)
    task = llc.Task(linear(), labelled(), "cross_entropy")
    assert llc.trace(task, tmp_path / "in", **FAST).steps.tolist() == [100, 200, 300]
    by_epoch = llc.trace(task, tmp_path / "in", step_from="epoch", **FAST)
    assert by_epoch.steps.tolist() == [0, 1, 2]
    (tmp_path / "my_task.py").write_text(
        "import llc\nfrom tiny import linear, labelled\n"
        "def task():\n    return llc.Task(linear(), labelled(), 'cross_entropy')\n"
    )
    monkeypatch.chdir(tmp_path)
    fast = [f for k, v in FAST.items() for f in (f"--{k.replace('_', '-')}", str(v))]
    command = ["trace", "in", "--task", "my_task.py:task", "--out", "run", "--workers", "1", *fast]
    assert main([*command, "--step-from", "epoch"]) == 0
    assert llc.Trajectory.load(tmp_path / "run").steps.tolist() == [0, 1, 2]
    assert json.loads((tmp_path / "run" / "command.json").read_text())["step_from"] == "epoch"
    capsys.readouterr()
    # What looks into the run folder later goes by the same rule.
    assert main(["basins", "run", "--steps", "0", "2", "--points", "3"]) == 0
    assert main(["basins", "run", "--steps", "100", "--points", "3"]) == 2
    capsys.readouterr()
    assert main([*command[: -len(fast) - 2], "--step-from", "nothing"]) == 2
    said = capsys.readouterr().err
    assert "'nothing'" in said
    assert said.count("\n") == 1


def test_one_by_one_and_followed_by_one_rule(tmp_path):
    saved(tmp_path, {"b.pt": {"step": 5}, "a.pt": {"step": 9}, "last.pt": {"step": 9}})
    lazy = as_items(iter([tmp_path / "a.pt", tmp_path / "b.pt"]))
    assert [item.step for item in lazy] == [9, 5]
    saved(tmp_path / "more", {"a.pt": {"step": 5}, "step_3.pt": {}})
    lazy = as_items(iter([tmp_path / "more" / n for n in ("a.pt", "step_3.pt")]))
    assert "step_3.pt" in refusal(lambda: list(lazy))
    times = iter(range(100))
    found = [item for item in follow(tmp_path, 3.0, lambda: float(next(times))) if item]
    # A copy that training writes anew is not taken.
    assert [(item.step, item.path.name) for item in found] == [(5, "b.pt"), (9, "a.pt")]


def test_a_copy_that_comes_late_is_told_from_another_checkpoint(tmp_path):
    def go_on():
        """Follow, and write one file more once two are taken."""
        times, taken = iter(range(100)), []
        for item in follow(tmp_path, 6.0, lambda: float(next(times))):
            if item is not None:
                taken.append((item.step, item.path.name))
                if item.step == 9:
                    saved(tmp_path, {"c-v1.pt": {"step": 9, "weights": weights}})
        return taken

    saved(tmp_path, {"b.pt": {"step": 5, "weights": 0}, "a.pt": {"step": 9, "weights": 1}})
    weights = 1
    assert go_on() == [(5, "b.pt"), (9, "a.pt")]
    (tmp_path / "c-v1.pt").unlink()
    weights = 2
    assert "both step 9" in refusal(go_on)


def test_pairs_bring_their_steps():
    assert "needs no rule" in refusal(lambda: list(as_items([(1, WEIGHTS[0])], "epoch")))


def test_the_command_says_what_decides(tmp_path):
    saved(tmp_path / "in", {"a_1_9.pt": {}, "a_2_3.pt": {}})
    done = rlct("trace", "in", "--task", "modular-addition", "--out", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "--step-from" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
