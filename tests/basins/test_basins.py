"""All pairs of a run: matrices, words, files, what is reused, figures."""

import json

import numpy as np
import pytest
import torch
from tiny import labelled, linear, real_valued, refusal, run
from valleys import at, network, permuted, ring

import llc
from llc.trajectory.basins import pairs
from llc.trajectory.basins.survey import picked
from llc.trajectory.sources import Item

LINE = [(step, at(np.cos(a), np.sin(a))) for step, a in ((10, 0), (20, 1), (30, 2), (40, 2.2))]


def chord(one, other):
    """Height of the ring's hill over a chord: the middle lies cos² of half the angle out."""
    return (np.cos((one - other) / 2) ** 2 - 1) ** 2


def test_matrices_of_barriers_on_a_ring():
    found = llc.basins(ring(), LINE)
    angles = np.array([0, 1, 2, 2.2])
    truth = np.array([[chord(a, b) for b in angles] for a in angles])
    np.testing.assert_allclose(found.barrier, truth, atol=1e-5)
    np.testing.assert_allclose(found.rise, truth, atol=1e-5)
    gap = 2 * np.abs(np.sin((angles[:, None] - angles) / 2))
    np.testing.assert_allclose(found.distance, gap, atol=1e-6)
    np.testing.assert_allclose(found.to_last(), truth[:, -1], atol=1e-5)
    np.testing.assert_allclose(found.between_neighbours(), np.diag(truth, 1), atol=1e-5)
    assert found.steps == (10, 20, 30, 40)
    assert found.barrier_aligned is found.barrier_curve is found.hidden is None
    assert found.connected_from() == (30, pytest.approx(0.01 * chord(0, 2.2), rel=1e-4))
    words = str(found)
    for part in ("4 checkpoints, steps 10 … 40", "at most 0.631 (step 10)", "from step 30 on",
                 "0.0528",
                 "(steps 10 and 20)", "no similarities"):  # fmt: skip
        assert part in words, words


def test_curves_go_to_neighbours_and_to_the_last():
    found = llc.basins(ring(), LINE, curves=True, budget=400)
    known = np.isfinite(found.barrier_curve)
    assert known.sum() == 4 + 2 * 5
    assert (found.barrier_curve[known] <= found.barrier[known]).all()
    assert found.barrier_curve[0, -1] < 0.02
    assert "curve: " in str(found)
    assert found.settings["curves"]["budget"] == 400


def test_units_in_another_order_are_another_basin_until_they_are_aligned():
    state = network(1).state_dict()
    inputs = torch.randn(80, 3, generator=torch.Generator().manual_seed(0))
    data = inputs, network(1)(inputs).detach()
    moved = permuted(state, [2, 0, 3, 1], [0.5, 2.0, 3.0, 1.0])
    task = llc.Task(network(), data, "mse", name="units")
    found = llc.basins(task, {1: state, 2: moved}, layers=["*"])
    assert found.barrier[0, 1] > 0.001
    assert found.barrier_aligned[0, 1] < 1e-6
    assert found.distance[0, 1] > 1
    assert found.distance_aligned[0, 1] < 1e-4
    assert "aligned: no barrier" in str(found)
    assert found.settings["symmetries"]
    assert found.cka["2"][0, 1] == pytest.approx(1, abs=1e-6)
    alone = llc.basins(task, {1: state, 2: moved}, align=False)
    assert alone.barrier_aligned is None
    assert "aligned" not in str(alone)


def test_a_task_without_known_symmetries_says_so():
    found = llc.basins(ring(), LINE)
    assert any("symmetries=[...]" in note for note in found.notes)


@pytest.mark.parametrize("data", [None, labelled(20, seed=4)])
def test_everything_survives_its_file(tmp_path, data):
    states = [(step, network(step).state_dict()) for step in (1, 2, 3)]
    states.append((4, {**states[0][1], "0.bias": torch.full((4,), torch.nan)}))
    task = llc.Task(network(), labelled(), "cross_entropy", name="n")
    found = llc.basins(task, states, curves=True, budget=8, data=data, points=5)
    assert list(found.skipped) == [4]
    assert "step 4 left out" in str(found)
    loaded = llc.Basins.load(found.save(tmp_path / "basins.json"))
    assert json.loads((tmp_path / "basins.json").read_text(), parse_constant=pytest.fail)
    assert loaded.to_dict() == found.to_dict() == llc.Basins.load(tmp_path).to_dict()
    np.testing.assert_array_equal(loaded.barrier_curve, found.barrier_curve)
    rows = found.to_csv(tmp_path / "b.csv").read_text().splitlines()
    assert len(rows) == 4
    first = dict(zip(rows[0].split(","), rows[2].split(","), strict=True))
    assert (first["step"], first["other_step"]) == ("1", "3")
    assert float(first["barrier"]) == pytest.approx(found.barrier[0, 2], rel=1e-6)
    assert float(first["cka 1"]) == pytest.approx(found.cka["1"][0, 2], rel=1e-6)
    (tmp_path / "basins.json").write_text("{}")
    assert "rlct basins" in refusal(lambda: llc.Basins.load(tmp_path))
    assert "does not exist" in refusal(lambda: llc.Basins.load(tmp_path / "none.json"))


def test_barriers_on_held_out_data_and_infinite_ones():
    found = llc.basins(llc.Task(linear(), real_valued(), "mse"), run(3), data=real_valued(30, 9))
    truth = llc.barrier(llc.Task(linear(), real_valued(30, 9), "mse"), run(3)[0][1], run(3)[2][1])
    assert found.loss[0] == truth.loss[0]
    far = llc.Task(ring().model, potential=lambda m: 1 / m.w[0].square())
    found = llc.basins(far, {1: at(1, 0), 2: at(-1, 0), 3: at(2, 0)})
    assert found.barrier[0, 1] == np.inf
    assert llc.Basins.from_dict(found.to_dict()).barrier[0, 1] == np.inf


def counted(monkeypatch):
    calls = []
    real = pairs.straight

    def straight(*given):
        calls.append(given)
        return real(*given)

    monkeypatch.setattr(pairs, "straight", straight)
    return calls


def test_what_is_finished_is_reused_and_what_changed_is_not(tmp_path, monkeypatch):
    task = llc.Task(network(), labelled(), "cross_entropy")
    states = {step: network(step).state_dict() for step in (1, 2, 3)}
    calls = counted(monkeypatch)
    whole = llc.basins(task, states, align=False)
    assert len(calls) == 3

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        llc.basins(task, states, align=False, out=tmp_path, progress=stop)
    assert len(calls) == 5
    told = []
    again = llc.basins(
        task, states, align=False, out=tmp_path, progress=lambda *now: told.append(now)
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert len(calls) == 6
    assert again.to_dict() == whole.to_dict()
    llc.basins(task, {**states, 3: network(9).state_dict()}, align=False, out=tmp_path)
    assert len(calls) == 8
    llc.basins(task, states, align=False, out=tmp_path, points=7)
    assert len(calls) == 11
    llc.basins(task, states, align=False, out=tmp_path, data=labelled(9))
    assert len(calls) == 14
    for path in (tmp_path / "basins").iterdir():
        path.write_bytes(path.read_bytes()[:-9])
    llc.basins(task, states, align=False, out=tmp_path)
    assert len(calls) == 17


def test_few_places_at_hand_give_the_same(monkeypatch):
    task = llc.Task(network(), labelled(), "cross_entropy")
    states = {step: network(step).state_dict() for step in range(5)}
    whole = llc.basins(task, states)
    monkeypatch.setattr("llc.trajectory.basins.shelf.ROOM", 1)
    assert llc.basins(task, states).to_dict() == whole.to_dict()


def test_which_checkpoints_are_picked():
    items = [Item(step) for step in range(0, 100, 10)]
    steps = [item.step for item in picked(items, 4, None)]
    assert steps == [0, 30, 60, 90]
    assert len(picked(items, 50, None)) == 10
    assert [item.step for item in picked(items, 4, (70, 20))] == [20, 70]
    assert "nearest is 40" in refusal(lambda: picked(items, 4, (44, 20)))
    assert "at least 2" in refusal(lambda: picked(items, 1, None))
    assert "at least 2" in refusal(lambda: picked(items, 4, (20, 20)))
    assert "at least 2" in refusal(lambda: picked(items[:1], 4, None))


def test_mistakes_are_told():
    states = {1: {"w": torch.zeros(3)}, 2: at(1, 0)}
    assert "step 1" in refusal(lambda: llc.basins(ring(), states))
    assert "no examples" in refusal(lambda: llc.basins(ring(), LINE, layers=["x"]))
    task = llc.Task(network(), labelled(), "cross_entropy")
    two = {step: network(step).state_dict() for step in (1, 2)}
    assert "no layer is called 'x'" in refusal(lambda: llc.basins(task, two, layers=["x"]))
    found = llc.basins(ring(), LINE)
    assert "'bent'" in refusal(lambda: found.heights("bent"))
    assert "no barrier of kind curve" in refusal(lambda: found.to_last("curve"))


@pytest.fixture(scope="module")
def surveyed():
    task = llc.Task(network(), labelled(), "cross_entropy", name="net")
    states = {10**step: network(step).state_dict() for step in range(4)}
    states[5000] = states[1000]
    return llc.basins(task, states, curves=True, budget=40)


def test_the_matrices_are_what_is_shown(surveyed):
    figure = llc.plot.basins(surveyed, layer="0", measure="procrustes")
    left, right = figure.axes[:2]
    shown = left.images[0].get_array()
    visible = surveyed.barrier > surveyed.resolution
    np.testing.assert_allclose(shown[visible], surveyed.barrier[visible])
    assert (shown[~visible] < left.images[0].norm.vmin).all()
    np.testing.assert_array_equal(right.images[0].get_array(), surveyed.procrustes["0"])
    names = [tick.get_text() for tick in left.get_xticklabels()]
    assert names == ["1", "10", "100", "1,000", "5,000"]
    assert "layer 0" in figure.get_label()
    hidden = llc.plot.basins(surveyed).axes[1]
    np.testing.assert_array_equal(hidden.images[0].get_array(), surveyed.cka[surveyed.hidden])


def test_figures_of_runs_without_similarities_or_barriers():
    assert len(llc.plot.basins(llc.basins(ring(), LINE)).axes) == 2
    still = llc.basins(ring(), {step: at(1, 0) for step in (0, 5, 10)})
    figure = llc.plot.basins(still)
    figure.draw_without_rendering()
    assert figure.axes[0].get_title() == "no barrier anywhere"
    llc.plot.barriers(still).draw_without_rendering()
    assert "no barrier" in str(still)
    many = llc.basins(ring(), {step: at(1, 0) for step in range(40)}, count=40, points=3)
    labels = llc.plot.basins(many).axes[0].get_xticks()
    assert len(labels) <= 16
    assert labels[-1] == 39


def test_barriers_over_training(surveyed):
    left, right = llc.plot.barriers(surveyed).axes
    lines = {line.get_label(): line for line in left.get_lines()}
    floor = surveyed.resolution
    for kind, label in (("straight", "straight line"), ("curve", "optimised curve")):
        truth = np.maximum(surveyed.to_last(kind)[:-1], floor)
        np.testing.assert_allclose(lines[label].get_ydata(), truth)
        truth = np.maximum(surveyed.between_neighbours(kind), floor)
        beside = {line.get_label(): line for line in right.get_lines()}
        np.testing.assert_allclose(beside[label].get_ydata(), truth)
    assert "straight line, aligned" in lines
    ax = llc.plot.barriers(surveyed).axes[0]
    assert llc.plot.barriers(surveyed, ax) is ax


def test_mistakes_in_figures_are_told(surveyed):
    assert "layer is 'x'" in refusal(lambda: llc.plot.basins(surveyed, layer="x"))
    assert "'cka' or" in refusal(lambda: llc.plot.basins(surveyed, measure="x"))
    alone = llc.basins(ring(), LINE)
    assert "curve" in refusal(lambda: llc.plot.basins(alone, kind="curve"))
