"""The demos whose λ is known, shortened to a few steps; page and figures of a run folder."""

import pytest

import llc
from llc.cli.main import main

STEPS = 7
LABELS = {"linear-net": "rank", "superposition": "polygon"}


def command(name, out):
    return ["demo", name, "--steps", str(STEPS), "--out", str(out), "--workers", "1"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Demo → its finished run folder."""
    found = {}
    for name in LABELS:
        found[name] = tmp_path_factory.mktemp("demo") / "run"
        assert main(command(name, found[name])) == 0
    return found


@pytest.mark.parametrize("name", LABELS)
def test_estimates_stand_where_lambda_does(name, runs):
    result = llc.Trajectory.load(runs[name])
    assert set(result.steps) == set(range(1, STEPS + 1))
    # Nothing is learnt yet: one level, its λ known.
    assert set(result.column(LABELS[name])) == {0}
    assert len(set(result.column("exact_llc"))) == 1
    # Five standard errors, and 2 % that λ̂ is below λ at these settings.
    exact = result.column("exact_llc")[-1]
    assert abs(result.llc[-1] - exact) <= 5 * result.mcse[-1] + 0.02 * exact


@pytest.mark.parametrize("name", LABELS)
def test_what_is_finished_is_reused_and_another_run_is_not_overwritten(name, runs, capsys):
    out = runs[name]
    before = {path: path.stat().st_mtime_ns for path in (out / "estimates").iterdir()}
    assert main(command(name, out)) == 0
    printed = capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (out / "estimates").iterdir()} == before
    row = next(line for line in printed.splitlines() if line.split()[:1] == ["0"])
    assert float(row.split()[1]) == llc.Trajectory.load(out).column("exact_llc")[0]
    assert "no jumps" in printed
    for written in ("report.html", "transitions.json", "figures/trajectory.svg"):
        assert (out / written).stat().st_size > 0
    assert main([*command(name, out), "--seed", "1"]) == 2
    assert "seed 0 (now 1)" in capsys.readouterr().err


def test_report_and_plot_of_a_run(runs, tmp_path, capsys):
    out = runs["linear-net"]
    assert main(["report", str(out), "-o", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes() == (out / "report.html").read_bytes()
    for figure in ("trajectory", "portrait", "chains", "runs"):
        target = tmp_path / f"{figure}.svg"
        assert main(["plot", str(out), "--figure", figure, "-o", str(target)]) == 0
        assert target.exists()
    target = tmp_path / "against.svg"
    arguments = ["plot", str(out), "--figure", "against", "--x", "weight_norm", "-o", str(target)]
    assert main(arguments) == 0
    assert "against weight norm" in target.with_suffix(".caption.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("plot", "RUN", "--figure", "dimension"), "N_eff"),
        (("plot", "RUN", "--figure", "chains", "--step", "99"), "nearest is 7"),
        (("plot", "RUN", "--figure", "against"), "has no 'planted'"),
        (("plot", "RUN", "--figure", "portrait", "--control", "RUN"), "--control has no place"),
        (("plot", "RUN", "--control", "RUN", "RUN"), "names 2 runs"),
        (("plot", "RUN", "-o", "x.jpg"), ".jpg"),
        (("report", "nowhere"), "is no folder"),
    ],
)
def test_what_cannot_be_drawn_is_said(arguments, words, runs, capsys):
    run = str(runs["linear-net"])
    assert main([run if word == "RUN" else word for word in arguments]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert len(err.splitlines()) == 1
