"""The command line: one line and exit code 2 for a mistake, numbers for everything else."""

import io
import json
import os
import subprocess
import sys

import pytest
import torch
from tiny import complaints, linear, rlct

import llc
from llc.cli.main import main

SCRIPT = """
import torch
from my_task import make_model, DATA

torch.manual_seed(0)
model = make_model()
optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
for step in range(1, 301):
    loss = torch.nn.functional.cross_entropy(model(DATA[0]), DATA[1])
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
torch.save(
    {"model": model.state_dict(), "optimizer": optimiser.state_dict(), "step": step},
    "step_300.pt",
)
"""
TASK = '''
import torch
import llc

generator = torch.Generator().manual_seed(0)
inputs = torch.randn(60, 3, generator=generator)
# Labels that no linear model fits exactly: the loss has its minimum at finite weights.
DATA = inputs, (inputs[:, 0] + torch.randn(60, generator=generator) > 0).long()

def make_model():
    return torch.nn.Linear(3, 2)

def task():
    return llc.Task(make_model(), DATA, "cross_entropy", name="mine")

def broken():
    raise RuntimeError("no data\\non this disk")

def returns_a_model():
    return make_model()

def needs_an_argument(path):
    return task()

number = 3
'''  # fmt: skip
FAST = ["--gamma", "1", "--chains", "2", "--draws", "60", "--burn-in", "40"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's folder, outside of the repository: a task file and checkpoints."""
    (tmp_path / "my_task.py").write_text(TASK)
    (tmp_path / "syntax.py").write_text("def task(:\n")
    (tmp_path / "raises.py").write_text("raise OSError('no data\\non this disk')\n")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    torch.save(linear().state_dict(), tmp_path / "step_1.pt")
    torch.save(torch.nn.Linear(5, 2, bias=False).state_dict(), tmp_path / "wide.pt")
    monkeypatch.chdir(tmp_path)
    # A task's file is imported like a script; here it must not outlive its test.
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("my_task", "syntax", "raises"):
        sys.modules.pop(name, None)


def one_line(code, out, err):
    """The sentence of a refused command line, or a failure that shows what came instead."""
    lines = err.splitlines()
    assert (code, out, len(lines)) == (2, "", 1), err
    assert lines[0].startswith("rlct: ")
    assert len(lines[0]) > 25
    assert "Traceback" not in err
    return lines[0]


def test_from_a_plain_training_script_to_an_estimate(folder):
    (folder / "train.py").write_text(SCRIPT)
    subprocess.run([sys.executable, "train.py"], cwd=folder, check=True, timeout=120)
    done = rlct(
        "estimate", "step_300.pt", "--task", "my_task.py:task", "--json", "--gamma", 1,
        "--precision", 0.1, "--seed", 3, cwd=folder,
    )  # fmt: skip
    assert (done.returncode, complaints(done.stderr)) == (0, [])
    record = json.loads(done.stdout)
    assert record["checkpoint"] == "step_300.pt"
    # Two of the eight directions leave the softmax as it is; the prior holds them, at no loss.
    assert 0 < record["llc"] < 4
    assert 0 < record["mcse"] < 0.1 * record["llc"]
    assert abs(record["virial"] - 1) < 0.1
    assert record["verdict"]["status"] in ("ok", "warn")
    assert record["verdict"]["readings"]
    settings = record["settings"]
    assert (settings["gamma"], settings["seed"], settings["chains"]) == (1.0, 3, 4)
    assert all(settings[name] is not None for name in ("n_beta", "step_size", "draws", "burn_in"))
    # The same from Python, which the settings must suffice to repeat.
    sys.path.insert(0, str(folder))
    sys.modules.pop("my_task", None)  # another test's file of the same name
    import my_task

    task = my_task.task().at(llc.load_weights("step_300.pt"))
    assert llc.estimate(task, gamma=1, precision=0.1, seed=3).llc == record["llc"]


def test_one_bad_input_as_a_user_sees_it(folder):
    done = rlct("estimate", "step_2.pt", "--task", "my_task.py:task", cwd=folder)
    assert "step_2.pt" in one_line(done.returncode, done.stdout, done.stderr)


def test_table_names_what_matters(folder, capsys):
    assert main(["estimate", "step_1.pt", "--task", "my_task.py:task", *FAST]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in ("step_1.pt", "LLC", "±", "90 % interval", "virial", "R-hat", "gamma", "verdict"):
        assert word in out


def test_json_is_one_object_without_nan(folder, capsys):
    # One chain has no R-hat: null, since NaN is no JSON.
    arguments = ["estimate", "step_1.pt", "--task", "my_task.py:task", *FAST, "--json"]
    assert main([*arguments, "--chains", "1"]) == 0
    record = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert record["chain_virials"] == [record["virial"]]


def test_an_audit_of_the_step(folder, capsys):
    arguments = [*ESTIMATE, *FAST, "--audit"]
    assert main(arguments) == 0
    assert "at half the step (its LLC " in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    audit = record["audit"]
    assert audit["half_step_size"] == pytest.approx(record["settings"]["step_size"] / 2)
    assert audit["difference"] == pytest.approx(record["llc"] - audit["half_llc"])
    assert audit["bias"] == pytest.approx(audit["difference"] / 0.75)


def test_module_and_built_in_tasks(folder, capsys):
    assert main(["estimate", "step_1.pt", "--task", "my_task:task", *FAST]) == 0
    assert "parameters" in capsys.readouterr().out
    code = main(["estimate", "step_1.pt", "--task", "modular-addition", *FAST])
    message = one_line(code, *capsys.readouterr())
    assert "ModularAddition" in message


@pytest.mark.parametrize(("flags", "code"), [([], 0), (["--strict"], 1)])
def test_strict_turns_a_failed_verdict_into_exit_code_1(folder, capsys, flags, code):
    # Chains that do not move have a virial of 0, which no verdict lets pass.
    stuck = ["--step-size", "0", "--draws", "20", "--burn-in", "0", "--gamma", "1"]
    arguments = ["estimate", "step_1.pt", "--task", "my_task.py:task", *stuck, *flags]
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert "verdict     fail" in out
    assert err == ""


ESTIMATE = ["estimate", "step_1.pt", "--task", "my_task.py:task"]
REFUSED = {
    "no step to audit": (
        [*ESTIMATE, "--audit", "--sampler", "mala"],
        ["'mala'", "no bias to audit", "drop the audit"],
    ),
    "missing file": (["estimate", "step_2.pt", *ESTIMATE[2:]], ["step_2.pt", "does not exist"]),
    "no checkpoint": (["estimate", "text.pt", *ESTIMATE[2:]], ["text.pt", "not a torch"]),
    "other kind": (["estimate", "my_task.py", *ESTIMATE[2:]], [".py", ".safetensors"]),
    "keys do not fit": (
        ["estimate", "wide.pt", *ESTIMATE[2:]],
        ["1 missing (bias)", "1 of another shape", "(2, 5)", "(2, 3)"],
    ),
    "no task file": (["estimate", "step_1.pt", "--task", "nil.py:task"], ["nil.py", "not exist"]),
    "task file broken": (
        ["estimate", "step_1.pt", "--task", "syntax.py:task"],
        ["syntax.py", "SyntaxError"],
    ),
    "task file raises": (
        ["estimate", "step_1.pt", "--task", "raises.py:task"],
        ["raises.py", "OSError: no data on this disk"],
    ),
    "no such function": (
        ["estimate", "step_1.pt", "--task", "my_task.py:taks"],
        ["my_task.py", "'taks'", "task"],
    ),
    "not a function": (["estimate", "step_1.pt", "--task", "my_task.py:number"], ["'number'"]),
    "function raises": (
        ["estimate", "step_1.pt", "--task", "my_task.py:broken"],
        ["RuntimeError", "no data on this disk", "--debug"],
    ),
    "function wants more": (
        ["estimate", "step_1.pt", "--task", "my_task.py:needs_an_argument"],
        ["TypeError", "without arguments"],
    ),
    "no Task": (
        ["estimate", "step_1.pt", "--task", "my_task.py:returns_a_model"],
        ["Linear", "expected an llc.Task"],
    ),
    "no colon": (["estimate", "step_1.pt", "--task", "my_task.py"], ["file.py:function"]),
    "no such module": (
        ["estimate", "step_1.pt", "--task", "no_such_module:task"],
        ["no_such_module", "cannot be imported"],
    ),
    "unknown flag": ([*ESTIMATE, "--gama", "1"], ["--gama", "did you mean --gamma?"]),
    "unknown flag, unlike any": ([*ESTIMATE, "--xyzzy"], ["--xyzzy", "--help"]),
    "no number": ([*ESTIMATE, "--gamma", "much"], ["gamma", "much", "--help"]),
    "no whole number": ([*ESTIMATE, "--chains", "2.5"], ["chains", "2.5", "--help"]),
    "negative": ([*ESTIMATE, "--gamma", "-1"], ["gamma", "-1", "above 0"]),
    "value missing": ([*ESTIMATE, "--gamma"], ["gamma", "--help"]),
    "unknown sampler": ([*ESTIMATE, "--sampler", "gibbs"], ["sampler", "gibbs", "kinetic"]),
    "settings missing": ([*ESTIMATE, "--settings", "no.json"], ["no.json", "cannot be read"]),
    "settings no JSON": ([*ESTIMATE, "--settings", "text.pt"], ["text.pt", "no JSON"]),
    "unknown preset": ([*ESTIMATE, "--preset", "gpt"], ["'gpt'", "rllc", "icl", "pythia-14m"]),
    "preset and settings": (
        [*ESTIMATE, "--preset", "icl", "--settings", "text.pt"],
        ["--preset icl", "--settings text.pt", "one of"],
    ),
    "preset for more data": ([*ESTIMATE, "--preset", "icl"], ["1024", "60"]),
    "grid without sweep": (
        ["calibrate", *ESTIMATE[1:], "--gammas", "1", "2"],
        ["--gammas", "--sweep"],
    ),
    "grid of no numbers": (["calibrate", *ESTIMATE[1:], "--gammas", "x"], ["gammas", "x"]),
    "settings into a folder": (["calibrate", *ESTIMATE[1:], "--out", "."], ["folder", ".json"]),
    "sweep into a file": (
        ["calibrate", *ESTIMATE[1:], "--sweep", "--out", "text.pt"],
        ["text.pt", "folder"],
    ),
    "calibrate, unknown flag": (["calibrate", *ESTIMATE[1:], "--gama", "1"], ["--gamma?"]),
    "unknown device": ([*ESTIMATE, "--device", "warp"], ["device", "warp"]),
    "batch too large": ([*ESTIMATE, "--batch-size", "61"], ["61", "60"]),
    "no --task": (["estimate", "step_1.pt"], ["--task", "estimate --help"]),
    "no checkpoint given": (["estimate", "--task", "my_task.py:task"], ["CKPT"]),
    "no command": ([], ["estimate", "demo", "--help"]),
    "unknown command": (["guess"], ["guess", "estimate", "calibrate", "demo", "validate"]),
    "unknown demo": (["demo", "xor"], ["xor", "grokking"]),
    "no steps": (["demo", "grokking", "--steps", "0", "--out", "run"], ["--steps is 0", "1"]),
    "small prime": (["demo", "grokking", "--prime", "3", "--out", "run"], ["--prime is 3", "5"]),
    "negative seed": (["demo", "grokking", "--seed", "-1", "--out", "run"], ["--seed is -1"]),
    "no workers": (["demo", "grokking", "--workers", "0", "--out", "run"], ["--workers is 0"]),
    "out is a file": (["demo", "grokking", "--steps", "1", "--out", "text.pt"], ["text.pt"]),
}


@pytest.mark.parametrize(("arguments", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(folder, capsys, arguments, words):
    code = main(arguments)
    message = one_line(code, *capsys.readouterr())
    assert [word for word in words if word not in message] == []
    assert not (folder / "run").exists()  # nothing was begun


@pytest.mark.parametrize(
    "name",
    ["unknown flag", "no number", "no --task", "no command", "unknown command", "unknown demo"],
)
def test_a_typing_error_reads_the_same_on_every_terminal(folder, name):
    # The parser draws frames, of other characters where the encoding has no lines.
    arguments, words = REFUSED[name]
    said = []
    for encoding in ("utf-8", "UTF-8", "ascii"):
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "40"}
        done = rlct(*arguments, cwd=folder, env=environment)
        said.append(one_line(done.returncode, done.stdout, done.stderr))
    assert [word for word in words if word not in said[0]] == []
    assert said == said[:1] * 3


def test_the_table_can_be_printed_on_every_terminal(folder, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert main([*ESTIMATE, *FAST]) == 0
    sys.stdout.flush()
    assert b"LLC" in written.getvalue()


def test_debug_shows_where(folder):
    with pytest.raises(llc.InputError):
        main(["estimate", "step_2.pt", "--task", "my_task.py:task", "--debug"])


CALIBRATE = ["calibrate", *ESTIMATE[1:], "--gamma", "1", "--precision", "0.2"]


def test_settings_calibrated_once_serve_again(folder, capsys):
    assert main([*CALIBRATE, "--out", "settings.json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    chosen = llc.Settings.load("settings.json")
    lines = out.splitlines()
    # One line a choice, each with its reason, and what it costs.
    for name, why in {**chosen.reasons}.items():
        assert [line for line in lines if line.startswith(f"{name} ") and f"({why})" in line]
    # No part was named, of which nothing is said then.
    assert set(chosen.reasons) == set(chosen.to_dict()) - {"reasons", "only"}
    assert (chosen.reasons["gamma"], chosen.reasons["seed"]) == ("as given", "default")
    assert "virial" in chosen.reasons["burn_in"]
    cost = next(line for line in lines if line.startswith("cost "))
    assert f"4 × ({chosen.burn_in} + {chosen.draws})" in cost
    # The estimate follows them, but for what is said beside them.
    assert main([*ESTIMATE, "--settings", "settings.json", "--json"]) == 0
    same = json.loads(capsys.readouterr().out)["settings"]
    kept = json.loads((folder / "settings.json").read_text())
    for name in ("n_beta", "gamma", "step_size", "burn_in", "draws", "chains", "sampler"):
        assert same[name] == kept[name]
    flags = ["--settings", "settings.json", "--chains", "2", "--draws", "30", "--seed", "0"]
    assert main([*ESTIMATE, *flags, "--json"]) == 0
    other = json.loads(capsys.readouterr().out)["settings"]
    assert (other["chains"], other["draws"]) == (2, 30)
    assert (other["step_size"], other["burn_in"]) == (kept["step_size"], kept["burn_in"])
    assert "chains" not in other["reasons"]
    # A precision would be idle beside a number of draws.
    flags = ["--settings", "settings.json", "--precision", "0.5", "--budget", "4000"]
    assert main([*ESTIMATE, *flags, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["draws"] != kept["draws"]


def test_calibrate_in_json(folder, capsys):
    assert main([*CALIBRATE, "--json", "--behavioural", "--sampler", "sgld"]) == 0
    record = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert record["settings"]["sampler"] == "sgld"
    assert record["settings"]["behavioural"] is True
    assert record["settings"]["step_size"] > 0
    assert record["gradient_evaluations"] > 0
    assert record["sound"] is True


def test_a_preset_and_a_flag_beside_it(folder, capsys):
    assert main([*ESTIMATE, "--preset", "pythia-14m", "--burn-in", "20", "--json"]) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert (settings["gamma"], settings["batch_size"], settings["burn_in"]) == (300, 32, 20)
    assert "2510.12077" in settings["reasons"]["n_beta"]
    assert "burn_in" not in settings["reasons"]
    assert main([*ESTIMATE, "--preset", "pythia-14m", "--burn-in", "20"]) == 0
    assert "scales with n_beta" in capsys.readouterr().out


def test_a_sweep_from_the_command_line(folder, capsys):
    grid = ["--sweep", "--step-sizes", "1e-3", "0.5", "--gammas", "1", "10", "--n-betas", "15"]
    short = ["--chains", "2", "--draws", "20", "--burn-in", "10", "--step-size", "1e-3"]
    arguments = [*CALIBRATE, *grid, *short, "--compile", "off", "--out", "swept"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("LLC ") == 4
    assert "diverged" in out
    assert "as given" in out
    names = {path.name for path in (folder / "swept").iterdir()}
    assert names == {
        "cells", "calibration.json", "settings.json",
        "sweep.json", "sweep.csv", "sweep.caption.txt", "sweep.pdf", "sweep.svg", "sweep.png",
    }  # fmt: skip
    assert len(llc.Sweep.load("swept/sweep.json").cells) == 4
    before = {path: path.stat().st_mtime_ns for path in (folder / "swept" / "cells").iterdir()}
    assert main([*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert len(record["sweep"]["cells"]) == 4
    after = {path: path.stat().st_mtime_ns for path in (folder / "swept" / "cells").iterdir()}
    assert after == before  # nothing was computed twice


@pytest.mark.parametrize("arguments", [[], ["estimate"], ["basins"], ["calibrate"], ["demo"]])
def test_help(capsys, arguments):
    assert main([*arguments, "--help"]) == 0
    out, err = capsys.readouterr()
    assert "usage: rlct" in out
    assert err == ""
    if arguments == ["estimate"]:
        assert all(flag in out for flag in ("--task", "--n-beta", "--gamma", "--strict", "--json"))


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rlct {llc.__version__}\n"


def test_help_comes_at_once():
    # torch takes seconds to import; help, version and a typing error must not wait for it.
    code = (
        "import sys, llc, llc.cli.main as m\n"
        "for line in (['--version'], ['--help'], ['estimate', '--x']): m.main(line)\n"
        "assert not {'torch', 'numpy', 'matplotlib', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, stderr=subprocess.DEVNULL)
    assert rlct("--help").returncode == 0


def test_what_is_left_out_is_named_without_its_help_text(folder, capsys):
    for given, needed in (
        (["estimate", "step_1.pt"], "rlct estimate needs --task TASK, such as"),
        (["estimate"], "rlct estimate needs CKPT and --task TASK, such as"),
        (["trace", "x", "--task", "my_task.py:task"], "rlct trace needs --out RUN; see"),
        (["mix"], "rlct mix needs CKPT_A CKPT_B and --task TASK and --out RUN, such as"),
    ):
        assert needed in one_line(main(given), *capsys.readouterr())


def test_a_folder_of_checkpoints_and_half_a_checkpoint(folder, capsys):
    whole = (folder / "step_1.pt").read_bytes()
    (folder / "half.pt").write_bytes(whole[: len(whole) // 2])
    (folder / "many").mkdir()
    for name in ("step_1.pt", "step_2.pt"):
        (folder / "many" / name).write_bytes(whole)
    for given, said in (("half.pt", "cut short"), ("many", "a folder of 2 checkpoints, expected")):
        code = main(["estimate", given, "--task", "my_task.py:task"])
        assert said in one_line(code, *capsys.readouterr())
    code = main(["trace", "nowhere", "--task", "my_task.py:task", "--out", "new"])
    assert "nowhere does not exist" in one_line(code, *capsys.readouterr())
    assert not (folder / "new").exists()


def test_a_task_that_is_no_function_but_a_task_will_do(folder, capsys):
    (folder / "plain.py").write_text(TASK + "\nready = task()\n")
    assert main(["estimate", "step_1.pt", "--task", "plain.py:ready", *FAST]) == 0
    assert "LLC" in capsys.readouterr().out
    message = one_line(
        main(["estimate", "step_1.pt", "--task", "plain.py:none"]), *capsys.readouterr()
    )
    assert "it has make_model, task" in message


def test_a_number_that_depends_on_gamma_says_so_beside_its_verdict():
    from dataclasses import replace

    from llc.cli.estimate import table
    from llc.estimation import Verdict

    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    found = llc.estimate(linear(), (x, linear()(x).detach()), "mse", gamma=1.0, n_beta=100.0)
    fine = replace(found, verdict=Verdict("ok", (), (), ()), slope_gamma=-0.1 * found.llc)
    assert table(fine, "x").splitlines()[-1] == "verdict     ok"
    steep = replace(fine, slope_gamma=-0.5 * found.llc, slope_gamma_se=0.1 * found.llc)
    assert table(steep, "x").splitlines()[-1] == (
        "verdict     ok, at this gamma: the LLC changes by 50% an e-fold of it"
    )
    unsure = replace(steep, slope_gamma_se=0.3 * found.llc)
    assert table(unsure, "x").splitlines()[-1] == "verdict     ok"
