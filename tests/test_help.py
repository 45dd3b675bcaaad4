"""Help texts and completion: every command and flag is explained, in whole sentences."""

import shutil
import subprocess
from dataclasses import fields

import pytest
import torch
from tiny import linear, rlct

from llc.cli import options
from llc.cli.main import COMMANDS, DESCRIPTION, main
from llc.cli.overview import GROUPS, overview


def kind(command):
    return getattr(options, command.capitalize())


def helped(command, capsys, monkeypatch, columns=100):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([command, "--help"]) == 0
    lines = [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]
    return " ".join(" ".join(lines).split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_is_explained_in_one_piece(command, capsys, monkeypatch):
    text = helped(command, capsys, monkeypatch)
    for field in fields(kind(command)):
        said = field.metadata["help"]
        assert len(said) >= 15, field.name
        assert said.rstrip().endswith("."), field.name
        # The parser hyphenates nothing, so that the sentence can be found again in its box.
        assert said in text, field.name


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_said_to_be_none(command, capsys, monkeypatch):
    text = helped(command, capsys, monkeypatch)
    for noise in ("(default: None)", "(default: False)", "(default: )", "STR "):
        assert noise not in text
    # What happens without a flag stands in its sentence, or behind it.
    for field in fields(kind(command)):
        if field.default is None and field.name not in OPEN:
            words = ("if left out", "instead", "unless", "left out)")
            assert any(word in field.metadata["help"] for word in words), field.name


OPEN = {
    "data", "settings", "preset", "seconds", "only", "shard", "follow_for", "loss_below", "control",
    "out", "json", "submit", "partition",
    "slurm", "gpus", "allow_globals",
}  # fmt: skip
"""Of these it goes without saying: without them there is none."""


def test_the_overview_has_every_command_once_with_its_first_sentence():
    page = overview(COMMANDS, DESCRIPTION)
    rows = [line for line in page.splitlines() if line.startswith("  ") and line[2] != " "]
    assert sorted(row.split()[0] for row in rows) == sorted(COMMANDS)
    assert DESCRIPTION in page
    assert all(name in COMMANDS for names in GROUPS.values() for name in names)
    text = " ".join(page.split())
    for command in COMMANDS:
        first = kind(command).__doc__.strip().partition("\n")[0]
        assert f"{command} {first}" in text


def test_a_command_of_no_group_is_not_lost():
    # Another tuple of commands, as a new one would make it, named like some options.
    page = overview((*COMMANDS, "sampled"), DESCRIPTION)
    assert "\nmore\n  sampled " in page
    assert "\nmore" not in overview(COMMANDS, DESCRIPTION)


def test_the_first_command_of_the_overview_works_as_it_stands(tmp_path, monkeypatch, capsys):
    line = next(r for r in overview(COMMANDS, DESCRIPTION).splitlines() if "then with" in r)
    words = line.split("rlct ")[1].replace("CKPT", "step_1.pt").split()
    task = next(r for r in overview(COMMANDS, DESCRIPTION).splitlines() if "task()" in r)
    said = task.partition("()")[2].strip().replace("returns", "return")
    torch.save(linear().state_dict(), tmp_path / "step_1.pt")
    (tmp_path / "my_task.py").write_text(
        "import llc\nfrom tiny import linear, labelled\n\ndef task():\n"
        "    model, (inputs, targets) = linear(), labelled()\n"
        f"    {said}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main([*words, "--gamma", "10", "--draws", "40", "--burn-in", "20"]) == 0
    assert "LLC" in capsys.readouterr().out


BASH = """
source <(cat)
complete_() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _tyro_rlct; \
echo "${COMPREPLY[@]}"; }
complete_ rlct ""
complete_ rlct tr
complete_ rlct estimate --behav
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash, which completes")
def test_bash_completes_commands_and_flags():
    script = rlct("--tyro-print-completion", "bash")
    assert (script.returncode, script.stderr) == (0, "")
    done = subprocess.run(
        ["bash", "-c", BASH], input=script.stdout, capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    all_, some, flag = done.stdout.splitlines()
    assert set(all_.split()) >= set(COMMANDS)
    assert set(some.split()) == {"trace", "transitions"}
    assert flag.split() == ["--behavioural"]


def test_zsh_has_a_script_with_every_command():
    script = rlct("--tyro-print-completion", "zsh")
    assert (script.returncode, script.stderr) == (0, "")
    assert script.stdout.startswith("#compdef rlct")
    assert all(command in script.stdout for command in COMMANDS)
