"""Figures are made from results, with whatever those hold."""

import math
from dataclasses import replace

from matplotlib.figure import Figure
from tiny import FAST, linear, real_valued, refusal, run

import llc
from llc.checkpoints import save_checkpoint


def trace(checkpoints=None, **given):
    task = llc.Task(linear(), real_valued(), "mse", name="toy")
    return llc.trace(task, checkpoints or run(), **{**FAST, "draws": 20, **given})


def test_figures(tmp_path):
    numbers = {"train_loss": 0.1, "test_loss": 0.2, "train_accuracy": 1.0, "test_accuracy": 0.5}
    for step, weights in run():
        save_checkpoint(tmp_path, step, weights, numbers)
    plain, measured = trace(), trace(tmp_path)
    for figure, panels in (
        (llc.plot.trajectory(plain), 2),  # loss, LLC
        (llc.plot.trajectory(plain, control=measured), 2),
        (llc.plot.trajectory(measured, control=plain), 3),  # losses, accuracies, LLC
    ):
        assert isinstance(figure, Figure)
        assert len(figure.axes) == panels
        figure.draw_without_rendering()
    files = llc.plot.save(figure, tmp_path / "figures" / "name")
    assert [path.name for path in files] == ["name.pdf", "name.svg", "name.png"]
    assert [path.read_bytes()[:4] for path in files] == [b"%PDF", b"<?xm", b"\x89PNG"]


def test_figures_on_given_axes_and_of_one_kind(tmp_path):
    ax = Figure().subplots()
    assert llc.plot.trajectory(trace(), ax, control=trace()) is ax
    labels = ax.get_legend_handles_labels()[1]
    for word in ("LLC, toy", "control", "prior-only null"):
        assert any(word in label for label in labels)
    assert llc.plot.save(ax.figure, tmp_path / "one.svg") == [tmp_path / "one.svg"]
    first = (tmp_path / "one.svg").read_bytes()
    llc.plot.save(ax.figure, tmp_path / "one.svg")
    assert (tmp_path / "one.svg").read_bytes() == first  # no dates, no random names
    assert ".jpg" in refusal(lambda: llc.plot.save(ax.figure, tmp_path / "one.jpg"))


def test_a_null_out_of_reach_does_not_take_the_axis():
    plain = trace()
    nulls = [plain.llc[0], *(50 * max(plain.llc) for _ in plain.points[1:])]
    points = [
        replace(p, estimate=replace(p.estimate, null=n))
        for p, n in zip(plain.points, nulls, strict=True)
    ]
    figure = llc.plot.trajectory(replace(plain, points=tuple(points)))
    assert figure.axes[-1].get_ylim()[1] < 10 * max(plain.llc)
    assert "(where that is at most 10 times the highest)" in figure.get_label()
    assert "times the highest" not in llc.plot.trajectory(plain).get_label()


def test_figure_of_the_initialisation():
    # Step 0 has no place on a logarithmic axis; it must not vanish.
    figure = llc.plot.trajectory(trace([(0, run()[0][1]), *run(2)]))
    figure.draw_without_rendering()
    ax = figure.axes[-1]
    x = ax.transData.transform([(0, ax.get_ylim()[0])])[0][0]
    assert ax.bbox.x0 <= x <= ax.bbox.x1


def test_figure_of_a_single_checkpoint_and_of_one_that_was_not_measured():
    llc.plot.trajectory(trace(run(1))).draw_without_rendering()
    lost = trace(run(1), step_size=1e6)
    assert math.isnan(lost.llc[0])
    llc.plot.trajectory(lost).draw_without_rendering()


def test_doubtful_points_are_seen_in_the_figure_and_counted_in_its_caption():
    doubtful = trace(gamma=1e4, draws=400)  # so local that the prior gives most of the number
    status = [point.estimate.verdict.status for point in doubtful.points]
    assert set(status) == {"warn"}
    ax = Figure().subplots()
    llc.plot.trajectory(doubtful, ax)
    (hollow,) = [line for line in ax.lines if line.get_label() == "verdict: warn"]
    assert list(hollow.get_xdata()) == [10, 20, 30, 40]
    assert "4 warn (hollow), 0 fail" in llc.plot.trajectory(doubtful).get_label()


def test_few_steps_are_written_as_whole_numbers():
    figure = llc.plot.trajectory(trace([(k, run()[0][1]) for k in (0, 1, 3, 30)]))
    figure.draw_without_rendering()
    assert [t.get_text() for t in figure.axes[-1].get_xticklabels()] == [
        "0",
        "1",
        "2",
        "5",
        "10",
        "20",
    ]
