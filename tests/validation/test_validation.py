"""The suite of truths: its table, its verdict on wrong answers, its command."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

import llc
from llc import InputError, truths
from llc.cli.main import main
from llc.validation import run as run_
from llc.validation.cases import Case, cases
from llc.validation.validation import Row, Validation


def small(tier="quick"):
    assert tier in ("quick", "full")
    return [
        Case("closed form", lambda: truths.quadratic([1.0] * 6)),
        Case("teacher", lambda: truths.reduced_rank(5, 2, 5, 1), n_beta=1000.0),
    ]


def wrong(tier="quick"):
    """A truth whose B is half as large again as it is."""
    truth = truths.quadratic([1.0] * 6)
    exact = truth.make_expected

    def expected(n_beta, gamma):
        value, error = exact(n_beta, gamma)
        return 1.5 * value, error

    return [Case("closed form", lambda: replace(truth, make_expected=expected), seeds=1)]


@pytest.fixture
def suite(monkeypatch):
    monkeypatch.setattr(run_, "cases", small)


def row(b=10.0, c=10.1, error=0.2, a=10.5, **changes):
    given = {
        "case": "x", "group": "closed form", "seed": 0, "n_beta": 1.0, "gamma": 1.0, "a": a, "b": b,
        "b_error": 0.0, "c": c, "c_error": error, "verdict": "ok", "reasons": (), "gradients": 10,
        "seconds": 0.1,
    }  # fmt: skip
    return Row(**given | changes)


def made_of(*rows):
    return Validation("quick", {}, {"llc": "0", "torch": "0", "python": "0"}, rows)


def test_the_default_estimator_passes(suite):
    result = llc.validate("quick")
    assert result.passed
    assert [r.seed for r in result.rows] == [0, 1, 0, 1]
    first, third = result.rows[0], result.rows[2]
    assert first.b == pytest.approx(3.0, rel=1e-3)
    assert (first.a, third.a, third.b) == (3.0, 6.5, None)
    assert abs(first.z) < 4
    assert "quadratic" in result.table()
    assert "passed" in result.table().splitlines()[-1]


def test_a_wrong_answer_is_caught(monkeypatch):
    monkeypatch.setattr(run_, "cases", wrong)
    result = llc.validate("quick")
    assert not result.passed
    assert result.rows[0].z < -4
    assert result.table().endswith("NOT passed")


def test_a_biased_sampler_is_caught(suite):
    # εa = 1.74 raises every direction's variance by 1/(1 − εa/4) = 1.77.
    result = llc.validate("quick", sampler="sgld", step_size=2e-4, burn_in=500, draws=4000)
    assert result.rows[0].z > 4
    assert not result.passed


def test_workers_and_one_process_find_the_same(tmp_path):
    given = {"budget": 2000}
    here = run_._estimate("quick", 0, 1, given)
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        there = pool.submit(run_._estimate, "quick", 0, 1, given).result()
    assert replace(here, seconds=0.0) == replace(there, seconds=0.0)


def test_finished_rows_are_reused(suite, tmp_path, monkeypatch):
    first = llc.validate("quick", out=tmp_path, budget=4000)
    seen = []
    monkeypatch.setattr(run_, "_estimate", lambda *job: seen.append(job))
    again = llc.validate("quick", out=tmp_path, budget=4000)
    assert (again.rows, seen) == (first.rows, [])
    (tmp_path / "rows" / "001-0.json").write_text("{}")
    monkeypatch.setattr(run_, "_estimate", lambda *_: first.rows[2])
    assert llc.validate("quick", out=tmp_path, budget=4000).rows == first.rows


def test_other_settings_are_not_reused(suite, tmp_path, monkeypatch):
    llc.validate("quick", out=tmp_path, budget=4000)
    seen = []

    def estimate(tier, index, seed, given):
        seen.append(given)
        return row()

    monkeypatch.setattr(run_, "_estimate", estimate)
    llc.validate("quick", out=tmp_path, budget=5000)
    assert seen == [{"budget": 5000}] * 4


def test_summary_counts_what_it_says():
    exact = [row(c=10 + z * 0.2) for z in (0.1, -0.5, 0.6, -1.0, 1.8, -0.2)]
    lost = row(c=None, error=None, verdict="fail")
    stuck = row(c=1e-10, error=1e-10, verdict="fail")
    result = made_of(*exact, lost, stuck, row(c=11.0))
    s = result.summary()
    assert (s["estimates"], s["failed"], s["missed"]) == (9, 2, 3)
    assert s["coverage_50"] == pytest.approx(4 / 7)
    assert s["coverage_90"] == pytest.approx(5 / 7)
    assert s["largest_z"] == pytest.approx(5)
    errors = [0.002, 0.01, 0.012, 0.02, 0.036, 0.004, 0.1, 1.0]
    assert s["closed_form_median"] == pytest.approx(np.median(errors))
    assert s["closed_form_p95"] == pytest.approx(np.percentile(errors, 95))
    assert s["teacher_median"] is None


def test_two_seeds_agree_as_often_as_their_intervals_promise():
    # Differences in units of √2·.2: .25, .88, .63 and 3.5.
    values = (10.0, 10.071, 10.25)
    rows = [row(seed=k, c=c) for k, c in enumerate(values)]
    rows += [row(case="b", c=5.0), row(case="b", c=6.0), row(case="b", c=9.0, verdict="fail")]
    s = made_of(*rows).summary()
    assert s["seeds_agree_50"] == pytest.approx(2 / 4)
    assert s["seeds_agree_90"] == pytest.approx(3 / 4)


def test_order_is_of_pairs_that_differ():
    rows = [row(b=b, c=c) for b, c in ((1.0, 1.0), (1.02, 0.9), (2.0, 3.0), (3.0, 2.5))]
    # Five of six pairs differ by 5 %; one of them, (2, 3), is out of order.
    assert made_of(*rows).summary()["order_preserved"] == pytest.approx(4 / 5)


def test_invariance_holds_networks_against_the_first():
    rows = [row(b=None, a=None, group="invariance", case=n, c=c) for n, c in
            (("plain", 10.0), ("plain", 12.0), ("×2", 11.55))]  # fmt: skip
    assert made_of(*rows).summary()["invariance"] == pytest.approx(0.05)
    assert math.isnan(rows[0].error)
    assert not rows[0].missed


def test_record_is_json(tmp_path):
    result = made_of(row(), row(c=None, error=None, verdict="fail", reasons=("DIVERGED",)))
    result.save(tmp_path / "deep" / "v.json")
    record = json.loads((tmp_path / "deep" / "v.json").read_text())
    assert record["rows"][1]["z"] is None
    assert record["passed"] is False


@pytest.mark.parametrize("tier", ["quick", "full"])
def test_every_case_can_be_built(tier):
    names = set()
    for case in cases(tier):
        truth = case.make()
        names.add((truth.name, case.n))
        assert truth.task(case.n).model is not None
        if case.group == "closed form":
            assert truth.make_expected is not None
    assert len(names) == len(cases(tier))


def test_figure_shows_every_group():
    rows = [row(group=g) for g in ("closed form", "teacher", "polygon", "invariance")]
    figure = llc.plot.validation(made_of(*rows))
    upper, lower = figure.axes
    assert len(upper.get_legend_handles_labels()[1]) == 3
    assert upper.get_xscale() == upper.get_yscale() == "log"
    assert "%" in lower.get_ylabel()
    assert llc.plot.validation(made_of(row(c=None, error=None))).axes


def test_command_prints_saves_and_says_by_its_exit_code(suite, tmp_path, capsys, monkeypatch):
    assert main(["validate", "--out", str(tmp_path), "--workers", "1", "--budget", "20000"]) == 0
    out = capsys.readouterr().out
    assert out == (tmp_path / "validation.txt").read_text()
    for name in ("validation.json", "validation.pdf", "validation.png", "validation.svg"):
        assert (tmp_path / name).stat().st_size > 0
    monkeypatch.setattr(run_, "cases", wrong)
    assert main(["validate", "--json", "--workers", "1"]) == 1
    assert json.loads(capsys.readouterr().out)["passed"] is False


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--quick", "--full"], "expected one of them"),
        (["--workers", "0"], "--workers is 0"),
        (["--precision", "-1"], "precision is -1"),
        (["--sampler", "best"], "best"),
        (["--chain", "2"], "--chains"),
    ],
)
def test_bad_flags_are_one_sentence(flags, words, capsys):
    assert main(["validate", *flags]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert words in said


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tier": "all"}, "expected quick or full"),
        ({"gamma": 1.0}, "gamma is the suite's own"),
        ({"step": 1.0}, "step is no setting"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_bad_arguments_are_refused(given, words):
    with pytest.raises(InputError, match=words):
        llc.validate(**given)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(InputError, match="expected a folder"):
        llc.validate(out=tmp_path / "f")
