"""What a trace takes, how its work is shared, and what it survives."""

import errno
import gc
import math
import os
import shutil
import signal
import threading
import time
import weakref
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from test_trajectory import ages, contents, task, trace, with_nan
from tiny import real_valued, refusal, run

import llc
from llc.checkpoints import save_checkpoint
from llc.trajectory import crew
from llc.trajectory.sources import as_items

STEPS = [10, 20, 30, 40]


def saved(folder, pairs=None):
    for step, weights in run() if pairs is None else pairs:
        save_checkpoint(folder, step, weights, {})
    return folder


def steps_of(source):
    return [item.step for item in as_items(source)]


def tables(*folders):
    return [(folder / "trajectory.csv").read_bytes() for folder in folders]


# Sources


def test_every_source_gives_the_same_checkpoints_by_step(tmp_path):
    folder = saved(tmp_path / "in", [(9, run()[0][1]), (100, run()[1][1]), (20, run()[2][1])])
    paths = [str(path) for path in folder.iterdir()]
    pattern = str(folder / "step_*.safetensors")
    for source in (
        str(folder),
        folder,
        pattern,
        paths,
        paths[::-1],
        {100: {}, 9: {}, 20: {}},
    ):
        assert steps_of(source) == [9, 20, 100], source
    # An iterator is taken as it comes.
    assert steps_of(iter([(100, {}), (9, {})])) == [100, 9]


def test_steps_from_metadata_and_from_folders(tmp_path):
    torch.save({"model": run()[0][1], "step": 7, "loss": torch.tensor(0.5)}, tmp_path / "a.pt")
    torch.save({"model": run()[0][1], "step": 3}, tmp_path / "b.pt")
    items = list(as_items(tmp_path))
    assert [item.step for item in items] == [3, 7]
    assert items[1].read()[1] == {"loss": 0.5}
    for step in (500, 1000, 90):
        inside = tmp_path / "trainer" / f"checkpoint-{step}"
        inside.mkdir(parents=True)
        torch.save(run()[0][1], inside / "model.pt")
        torch.save({"state": 1}, inside / "optimizer.pt")
    assert steps_of(tmp_path / "trainer") == [90, 500, 1000]
    assert steps_of(str(tmp_path / "trainer" / "*" / "model.pt")) == [90, 500, 1000]


def test_no_checkpoints(tmp_path):
    assert "holds no checkpoint" in refusal(lambda: trace(str(tmp_path)))
    assert "does not exist" in refusal(lambda: trace(tmp_path / "nowhere"))
    assert "no file fits" in refusal(lambda: trace(str(tmp_path / "*.pt")))
    assert "empty" in refusal(lambda: trace(iter([])))
    assert "expected paths" in refusal(lambda: trace([3]))
    assert "(10, int)" in refusal(lambda: trace([(10, 3)]))
    assert "at least 0" in refusal(lambda: trace([(-1, {})]))
    torch.save(run()[0][1], tmp_path / "final.pt")
    assert "no training step" in refusal(lambda: trace(tmp_path))


def test_duplicated_steps_write_nothing(tmp_path):
    folder = saved(tmp_path / "in")
    torch.save(run()[0][1], folder / "again_step_10.pt")
    message = refusal(lambda: trace(folder, tmp_path / "out"))
    assert all(word in message for word in ("again_step_10.pt", "step_0000010", "both step 10"))
    assert contents(tmp_path / "out") == {}
    # Of an iterator it shows late: what was finished before is kept.
    assert "step 10 twice" in refusal(lambda: trace(iter([*run(), run()[0]]), tmp_path / "late"))
    assert sorted(ages(tmp_path / "late")) == STEPS


@pytest.mark.parametrize("threads", [0, 2])
def test_no_more_than_a_few_checkpoints_are_in_memory(tmp_path, threads):
    alive, most = weakref.WeakSet(), []

    def stream():
        for number in range(8):
            weight = torch.eye(2, 3) + 0.01 * number
            alive.add(weight)
            yield number, {"weight": weight, "bias": torch.zeros(2)}
            del weight
            gc.collect()
            most.append(len(alive))

    if threads:
        with ThreadPoolExecutor(threads) as pool:
            result = trace(stream(), tmp_path, executor=pool, draws=4, burn_in=0)
    else:
        result = trace(stream(), tmp_path, draws=4, burn_in=0)
    assert len(result.points) == 8
    assert max(most) <= 2 * threads + 2


def test_traces_of_a_run_folder_stay_on_disk(tmp_path):
    here, kept = trace(), trace(out=tmp_path)
    for one, other in zip(here.points, kept.points, strict=True):
        assert one.estimate.to_dict() == {
            **other.estimate.to_dict(),
            "seconds": one.estimate.seconds,
        }
        assert np.array_equal(one.estimate.trace, other.estimate.trace)
        assert np.array_equal(one.estimate.virial_trace, other.estimate.virial_trace)
        assert not any(isinstance(value, np.ndarray) for value in vars(other.estimate).values())
    again = llc.Trajectory.load(tmp_path)
    assert again == kept
    (tmp_path / "estimates" / "0000010.npz").unlink()
    assert "0000010" in refusal(lambda: kept.points[0].estimate.trace)


def test_nothing_is_left_of_a_checkpoint_once_it_is_done(tmp_path):
    from torch.fx import graph_module

    kept = graph_module._loader.eval_cache
    trace(run(2), tmp_path, draws=4, burn_in=0)
    before = set(kept)
    assert before  # else torch keeps it elsewhere now
    trace(run(4), tmp_path, draws=4, burn_in=0)
    assert set(kept) == before


# What goes wrong with one checkpoint


def test_corrupt_files_are_told_and_the_rest_is_done(tmp_path):
    folder = saved(tmp_path / "in")
    whole = (folder / "step_0000020.safetensors").read_bytes()
    (folder / "step_0000020.safetensors").write_bytes(whole[:-10])
    torch.save(run()[0][1], folder / "step_25.pt")
    (folder / "step_25.pt").write_bytes((folder / "step_25.pt").read_bytes()[:-100])
    result = trace(folder, tmp_path / "out", gamma=None, budget=600)
    assert result.steps.tolist() == [10, 30, 40]
    assert "step_0000020.safetensors" in result.skipped[20]
    assert "step_25.pt is not a torch checkpoint" in result.skipped[25]
    assert llc.Trajectory.load(tmp_path / "out").skipped == result.skipped
    before = ages(tmp_path / "out")
    # Once it is repaired, the same call does it, and nothing else.
    (folder / "step_0000020.safetensors").write_bytes(whole)
    repaired = trace(folder, tmp_path / "out", gamma=None, budget=600)
    assert repaired.steps.tolist() == STEPS
    assert list(repaired.skipped) == [25]
    assert {s: t for s, t in ages(tmp_path / "out").items() if s != 20} == before


def test_estimate_of_a_file_that_breaks_later_is_not_lost(tmp_path):
    folder = saved(tmp_path / "in")
    trace(folder, tmp_path / "out")
    before, whole = ages(tmp_path / "out"), (folder / "step_0000020.safetensors").read_bytes()
    (folder / "step_0000020.safetensors").write_bytes(b"")
    for result in (trace(folder, tmp_path / "out"), llc.Trajectory.load(tmp_path / "out")):
        assert result.steps.tolist() == [10, 30, 40]
        assert list(result.skipped) == [20]
    (folder / "step_0000020.safetensors").write_bytes(whole)
    for result in (trace(folder, tmp_path / "out"), llc.Trajectory.load(tmp_path / "out")):
        assert (result.steps.tolist(), result.skipped) == (STEPS, {})
    # Nor by a reading that fails.
    assert "reading 'bad'" in refusal(
        lambda: trace(folder, tmp_path / "out", readings={"bad": lambda model: None})
    )
    assert trace(folder, tmp_path / "out").steps.tolist() == STEPS
    assert ages(tmp_path / "out") == before


def test_what_a_killed_process_left_is_removed(tmp_path):
    trace(out=tmp_path)
    names = (".run.json.a1b2", ".trajectory.csv.x_1", "estimates/.0000010.npz.q9")
    for name in (*names, ".gitignore"):
        (tmp_path / name).write_text("half")
    trace(out=tmp_path)
    assert [name for name in names if (tmp_path / name).exists()] == []
    assert (tmp_path / ".gitignore").exists()


def test_mixed_architectures(tmp_path):
    pairs = [*run(), (50, {"weight": torch.zeros(2, 5), "bias": torch.zeros(2)})]
    result = trace(pairs, tmp_path)
    assert result.steps.tolist() == STEPS
    assert "weight is (2, 5) and should be (2, 3)" in result.skipped[50]
    assert "do not fit" in refusal(lambda: trace(pairs[4:]))


def test_what_a_loss_raises_is_told_in_one_sentence(tmp_path):
    def breaks(outputs, targets):
        raise RuntimeError("out of\nmemory")

    message = refusal(lambda: trace(used=llc.Task(task().model, real_valued(), breaks)))
    assert "step 10" in message
    assert "RuntimeError: out of memory" in message


# A disk that is full


@pytest.mark.parametrize("room", [1, 4, 6])
def test_full_disk(tmp_path, monkeypatch, room):
    trace(out=tmp_path / "whole")
    written, flush = [], os.fsync

    def full(handle):
        written.append(handle)
        if len(written) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(handle)

    monkeypatch.setattr(os, "fsync", full)
    message = refusal(lambda: trace(out=tmp_path / "out"))
    assert "No space left on device" in message
    assert "make room" in message
    monkeypatch.undo()
    names = set(contents(tmp_path / "out"))
    assert not [name for name in names if "/." in name]
    # What the task is, a record, and three files an estimate.
    finished = [name for name in names if name.endswith(".fingerprint")]
    assert len(finished) == max(room - 2, 0) // 3
    trace(out=tmp_path / "out")
    assert len(set(tables(tmp_path / "whole", tmp_path / "out"))) == 1


def test_out_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "a file" in refusal(lambda: trace(out=tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text("[]")
    assert "run.json" in refusal(lambda: trace(out=tmp_path / "other"))
    assert (tmp_path / "other" / "run.json").read_text() == "[]"


def test_one_trace_at_a_time(tmp_path):
    messages = []

    def look(step, _):
        messages.append(refusal(lambda: trace(out=tmp_path)))

    trace(out=tmp_path, progress=look)
    assert len(messages) == 4
    assert "another rlct trace" in messages[0]


# Sharing the work


def test_shards_share_a_folder_and_nothing_is_done_twice(tmp_path):
    whole = trace(out=tmp_path / "whole")
    first = trace(out=tmp_path / "out", shard=(1, 2))
    assert first.steps.tolist() == [10, 30]
    second = trace(out=tmp_path / "out", shard=(2, 2))
    assert second.llc.tolist() == whole.llc.tolist()
    before = ages(tmp_path / "out")
    assert trace(out=tmp_path / "out").llc.tolist() == whole.llc.tolist()
    assert ages(tmp_path / "out") == before
    assert len(set(tables(tmp_path / "whole", tmp_path / "out"))) == 1


def test_shards_in_folders_of_their_own_are_collected(tmp_path):
    given = {"gamma": None, "budget": 600}
    whole = trace(out=tmp_path / "whole", **given)
    for number in (1, 2, 3):
        own = tmp_path / str(number)
        assert len(trace(out=own, shard=(number, 3), **given).points) == (2 if number == 1 else 1)
        shutil.copytree(own, tmp_path / "out", dirs_exist_ok=True)
    before = ages(tmp_path / "out")
    assert sorted(before) == STEPS
    assert trace(out=tmp_path / "out", **given).llc.tolist() == whole.llc.tolist()
    assert ages(tmp_path / "out") == before


def test_shard_without_a_part():
    assert "no part in 4" in refusal(lambda: trace(shard=(5, 6)))


def test_what_does_not_go_together(tmp_path):
    for given, word in [
        ({"shard": (3, 2)}, "3/2"),
        ({"workers": 0}, "workers is 0"),
        ({"stack": 2}, "step_size"),
        ({"stack": 0}, "stack is 0"),
        ({"follow": True}, "a list"),
        ({"follow_for": 1.0}, "without follow"),
        ({"workers": 2, "executor": ThreadPoolExecutor(1)}, "one of them"),
    ]:
        assert word in refusal(lambda given=given: trace(out=tmp_path / "out", **given)), given
    assert "shard" in refusal(lambda: trace(tmp_path, follow=True, shard=(1, 2)))
    assert not (tmp_path / "out").exists()


def test_stacked_and_frozen(tmp_path):
    alone = trace(step_size=0.05, sampler="sgld-lm")
    many = trace(step_size=0.05, sampler="sgld-lm", stack=3, out=tmp_path)
    assert np.allclose(many.llc, alone.llc, rtol=1e-4)
    given = {"gamma": None, "draws": None, "burn_in": None, "precision": 0.3}
    frozen = trace(freeze=True, stack=4, **given)
    for name in ("gamma", "step_size", "burn_in", "draws"):
        values = {getattr(point.estimate.settings, name) for point in frozen.points}
        assert values == {getattr(frozen.settings, name)}
        of = "chosen at step 40" if name == "gamma" else "checkpoints"
        assert of in frozen.settings.reasons[name]
    # The safest of the pilots: none chose a smaller step at that gamma.
    pilots = [
        llc.calibrate(task().at(run()[k][1]), settings=frozen.settings, freeze=True,
                      step_size=None, burn_in=None, draws=None).step_size
        for k in (0, 2, 3)
    ]  # fmt: skip
    assert frozen.settings.step_size == pytest.approx(min(pilots), rel=1e-5)


def test_frozen_folder_goes_on_with_what_it_chose(tmp_path):
    given = {"gamma": None, "draws": None, "burn_in": None, "precision": 0.3, "freeze": True}
    first = trace(out=tmp_path, **given)
    before = ages(tmp_path)
    assert trace(out=tmp_path, **given).settings == first.settings
    assert ages(tmp_path) == before
    assert "freeze True (now False)" in refusal(
        lambda: trace(out=tmp_path, **{**given, "freeze": False})
    )


# Readings


def share_of_zeros(model):
    return (model.weight == 0).float().mean()


def test_readings_beside_the_llc(tmp_path):
    inputs, targets = real_valued(seed=5)
    given = {"readings": {"test": (inputs, targets), "zeros": share_of_zeros}, "n_eff": True}
    result = trace(out=tmp_path, **given)
    for point, (_, weights) in zip(result.points, run(), strict=True):
        model = task().at(weights).model
        loss = torch.nn.functional.mse_loss(model(inputs), targets).item()
        assert point.metadata["test_loss"] == pytest.approx(loss, rel=1e-5)
        assert point.metadata["zeros"] == share_of_zeros(model)
        norm = math.sqrt(sum(p.square().sum().item() for p in model.parameters()))
        assert point.metadata["weight_norm"] == pytest.approx(norm, rel=1e-5)
        assert point.metadata["train_loss"] == pytest.approx(point.estimate.baseline, rel=1e-5)
    header = (tmp_path / "trajectory.csv").read_text().splitlines()[0].split(",")
    assert {"test_loss", "zeros", "weight_norm", "n_eff", "n_eff_se"} <= set(header)
    before = ages(tmp_path)
    # Other readings are measured without sampling again.
    other = trace(out=tmp_path, readings={"zeros": share_of_zeros})
    assert ages(tmp_path) == before
    assert "test_loss" not in other.metadata_names
    assert other.column("zeros").tolist() == result.column("zeros").tolist()


def test_n_eff_is_twice_the_llc_of_a_quadratic_loss():
    used = replace(task(), data=real_valued(400))
    given = {"draws": 1000, "burn_in": 100, "behavioural": True, "n_eff": True}
    (point,) = trace(run(1), used=used, **given).points
    error = max(5 * point.estimate.mcse, 0.1)
    assert point.metadata["n_eff"] / 2 == pytest.approx(point.estimate.llc, abs=error)
    assert point.metadata["n_eff_se"] == pytest.approx(0, abs=1e-6)


def test_task_carries_readings_and_classes_have_accuracies():
    inputs = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    labels = (inputs[:, 0] > 0).long()
    labels[:10] = -100
    used = llc.Task(
        task().model,
        (inputs[10:], labels[10:]),
        "cross_entropy",
        readings={"all": (inputs, labels)},
    )
    (point,) = trace(run(1), used=used).points
    outputs = used.at(run(1)[0][1]).model(inputs)
    right = (outputs.argmax(1) == labels)[10:].float().mean().item()
    loss = torch.nn.functional.cross_entropy(outputs, labels).item()
    assert point.metadata["all_accuracy"] == pytest.approx(right)
    assert point.metadata["train_accuracy"] == pytest.approx(right)
    assert point.metadata["all_loss"] == pytest.approx(loss, rel=1e-5)


def test_readings_that_cannot_be_used():
    data = real_valued()
    assert "readings is a list" in refusal(lambda: trace(readings=["test"]))
    assert "'test'" in refusal(lambda: trace(readings={"test": data[0]}))
    potential = llc.Task(task().model, potential=lambda m: m.weight.square().sum())
    assert "function of the model" in refusal(lambda: trace(used=potential, readings={"t": data}))

    def fails(model):
        return model.weight

    message = refusal(lambda: trace(readings={"mine": fails}))
    assert "reading 'mine'" in message
    wide = torch.zeros(4, 7), torch.zeros(4, 2)
    assert "reading 'wide'" in refusal(lambda: trace(readings={"wide": wide}))


# Processes


def deadly(model):
    """A reading that ends its process where the weights are large."""
    if model.bias[0] > 100:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0.0


def test_worker_that_dies_costs_its_checkpoint_alone(tmp_path):
    pairs = run(3)
    pairs[1][1]["bias"] += 1000
    used = llc.Task(task().model, real_valued(), "mse", name="toy", readings={"deadly": deadly})
    result = trace(pairs, tmp_path / "two", used=used, workers=2)
    assert result.steps.tolist() == [10, 30]
    assert "died" in result.skipped[20]
    alone = trace([p for p in pairs if p[0] != 20], tmp_path / "one", used=used)
    assert tables(tmp_path / "one") == tables(tmp_path / "two")
    assert [p.estimate.trace.tolist() for p in result.points] == [
        p.estimate.trace.tolist() for p in alone.points
    ]


def test_executor_that_breaks_is_told(tmp_path):
    used = llc.Task(task().model, real_valued(), "mse", readings={"deadly": deadly})
    pairs = [(1, {"weight": torch.eye(2, 3), "bias": torch.full((2,), 1000.0)})]
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        message = refusal(lambda: trace(pairs, tmp_path, used=used, executor=pool))
    assert "died" in message


def test_what_is_no_task():
    for wrong in (task().model, 3, lambda: 3):
        assert "expected an llc.Task" in refusal(lambda wrong=wrong: trace(used=wrong))
    assert trace(run(1), used=task).name == "toy"


def test_task_that_cannot_be_sent():
    used = llc.Task(task().model, real_valued(), lambda o, t: ((o - t) ** 2).mean(1))
    assert "workers" in refusal(lambda: trace(used=used, workers=2))


# Following a run


@pytest.fixture
def _quick(monkeypatch):
    monkeypatch.setattr(crew, "POLL", 0.05)


@pytest.mark.usefixtures("_quick")
def test_follow_takes_checkpoints_as_they_come(tmp_path):
    folder = tmp_path / "in"
    whole = trace(out=tmp_path / "whole")
    content = {s: (saved(tmp_path / "ready", [(s, w)]), s)[1] for s, w in run()}
    files = {s: (tmp_path / "ready" / f"step_{s:07d}.safetensors").read_bytes() for s in content}

    def write():
        time.sleep(0.2)
        folder.mkdir()
        for step, data in files.items():
            path = folder / f"step_{step:07d}.safetensors"
            # As a writer without care does it: in two parts.
            path.write_bytes(data[:40])
            time.sleep(0.3)
            path.write_bytes(data)

    writer = threading.Thread(target=write)
    writer.start()
    result = trace(folder, tmp_path / "out", follow=True, follow_for=2.0)
    writer.join()
    assert result.skipped == {}
    assert result.llc.tolist() == whole.llc.tolist()
    assert llc.Trajectory.load(tmp_path / "out").steps.tolist() == STEPS
    # A file that never gets whole ends the wait with its sentence.
    (folder / "step_0000050.safetensors").write_bytes(files[10][:40])
    result = trace(folder, tmp_path / "out", follow=True, follow_for=1.0)
    assert list(result.skipped) == [50]


@pytest.mark.usefixtures("_quick")
def test_interrupt_ends_following_with_what_there_is(tmp_path):
    saved(tmp_path / "in")

    def look(step, _):
        if step == 30:
            raise KeyboardInterrupt

    result = trace(tmp_path / "in", tmp_path / "out", follow=True, progress=look)
    assert result.steps.tolist() == [10, 20, 30]
    assert (tmp_path / "out" / "trajectory.csv").exists()


def test_nothing_to_follow(tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "POLL", 0.05)
    message = refusal(lambda: trace(tmp_path / "none", follow=True, follow_for=0.2))
    assert "none came" in message


def test_lazy_sources_choose_settings_at_their_first(tmp_path):
    result = trace(iter(run()), tmp_path, gamma=None, budget=600)
    assert result.steps.tolist() == STEPS
    assert "chosen at step 20" in result.settings.reasons["gamma"]
    before = ages(tmp_path)
    again = trace(with_nan(run(), 3), tmp_path, gamma=None, budget=600)
    assert (again.steps.tolist(), list(again.skipped)) == ([10, 20, 30], [40])
    assert ages(tmp_path) == before
