"""The grokking study: its page says what its result files say, its tools do what they claim."""

import sys
from pathlib import Path

import numpy as np
import pytest

STUDY = Path(__file__).parents[1] / "docs" / "studies" / "grokking"


@pytest.fixture
def study(monkeypatch):
    """Its folder on the path, as its own command puts it, and off it again."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(STUDY)
    yield
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("parts", "figures", "page", "draw"):
            del sys.modules[name]


def test_the_page_is_what_its_template_and_results_make(study):
    import page

    assert (STUDY / "index.md").read_text() == page.render()


def test_verdicts_and_comparisons_follow_from_the_results(study):
    from parts import claims, common, numbers

    for part, module in (("claims", claims), ("numbers", numbers)):
        again = common._short(module.compute(Path(), 1))
        assert again == common.kept(part), part


def test_every_figure_can_be_drawn_from_the_results(study, tmp_path, monkeypatch):
    import draw
    from figures import common

    monkeypatch.setattr(common, "IMAGES", tmp_path)
    draw.draw()
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {path.name for path in (STUDY / "images").iterdir()}
    text = (STUDY / "index.md").read_text()
    assert all(f"images/{name}" in text for name in drawn)


def test_runs_are_chosen_without_looking_at_their_llc(study, monkeypatch):
    from parts import common

    trained = {
        name: {"grokked": 20_000.0 if seed % 3 else None, "test_accuracy": 1.0 if seed % 3 else 0.1}
        for seed, name in enumerate(f"seed-{seed}" for seed in common.SEEDS)
    }
    monkeypatch.setattr(common, "kept", lambda part: {"train": trained}[part])
    assert common.chosen() == [
        "seed-1", "seed-2", "seed-4", "seed-5", "seed-7", "seed-0", "seed-3", common.CONTROL
    ]  # fmt: skip


def test_staircases_keep_the_range_and_have_as_many_levels(study):
    from parts.power import staircase

    curve = np.exp(np.linspace(6, 4, 50))
    for plateaus in (2, 6, 24):
        stairs = staircase(curve, plateaus)
        assert len(np.unique(stairs)) == plateaus
        assert np.abs(np.log(stairs / curve)).max() <= 1.0001 / plateaus
    assert (np.diff(staircase(curve, 6)) <= 0).all()


def test_a_curve_that_dips_has_not_arrived(study):
    from parts.common import first_step

    curves = {"step": [1.0, 2.0, 3.0, 4.0], "x": [0.99, 0.5, 0.99, 1.0]}
    assert first_step(curves, "x", 0.99) == 3
    assert first_step(curves, "x", 1.1) is None
