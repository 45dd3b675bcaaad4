"""``rlct``: one place for parsing, errors and exit codes.

Exit codes: 0 done; 1 a verdict failed and ``--strict`` was given, or a validation did not pass; 2
bad input, told in one sentence on standard error; 130 interrupted.
"""

import contextlib
import difflib
import importlib
import io
import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from llc.cli.output import kept_for_json
from llc.errors import InputError, brief

__all__ = ["main"]

COMMANDS = (
    "estimate", "basins", "calibrate", "demo", "doctor", "export", "fourier", "mix", "plant",
    "plot", "refine", "report", "scale", "symmetries", "trace", "transitions", "validate",
)  # fmt: skip
RESUMED = ("basins", "demo", "mix", "plant", "refine", "trace")
DESCRIPTION = "Local learning coefficients of checkpoints, with error bars and verdicts."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit code."""
    own = arguments is None
    try:
        return _main(list(sys.argv[1:] if arguments is None else arguments), own)
    except BrokenPipeError:
        # Whoever read the output has seen enough; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _main(arguments: list[str], own: bool) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        options = _parse(arguments)
    except InputError as error:
        print(f"rlct: {error}", file=sys.stderr)
        return 2
    if options is None:
        return 0
    try:
        with kept_for_json(getattr(options, "json", False), to_the_end=own):
            code = _run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        raise
    except SystemExit as stop:
        # Not of this program's doing: the code of a task, or what it calls, said so.
        print(
            f"rlct: the task's own code ended the program (exit {brief(stop.code)})",
            file=sys.stderr,
        )
        return 2
    except (InputError, OSError, MemoryError) as error:
        if options.debug:
            raise
        print(f"rlct: {brief(_said(error), 1000, 400)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        name = type(options).__name__.lower()
        kept = "the same command goes on from what is finished"
        what = (
            kept if name in RESUMED else "nothing is kept of it, and the same command begins anew"
        )
        print(f"rlct: interrupted; {what}", file=sys.stderr)
        return 130


def _said(error: Exception) -> str:
    """One sentence also of what the system refuses, wherever that was."""
    if isinstance(error, MemoryError):
        return "memory is full: give fewer chains or workers, or a smaller batch size"
    if isinstance(error, InputError) or not isinstance(error, OSError):
        return str(error)
    if error.filename is None:
        why = error.strerror or str(error) or type(error).__name__
        return f"something cannot be read or written ({why}), perhaps what this is printed to"
    why = error.strerror or type(error).__name__
    return f"{error.filename} cannot be read or written ({why}): look at place and permissions"


def _run(options: Any) -> int:
    """Dispatch; each command's module, named like its options, is imported only when it runs."""
    log, said = logging.getLogger("llc"), _Notes()
    level = log.level
    log.addHandler(said)
    log.setLevel(logging.INFO)
    from llc.formats import allowing

    try:
        with allowing(getattr(options, "allow_globals", None)):
            return importlib.import_module(f"llc.cli.{type(options).__name__.lower()}").run(options)
    finally:
        log.removeHandler(said)
        log.setLevel(level)


class _Notes(logging.Handler):
    """Prints what was done to checkpoints on standard error, once however many files it was."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message, unless one like it, of another file, was printed before."""
        kind = f"{record.msg}{record.args[1:] if isinstance(record.args, tuple) else ''}"
        if kind not in self._seen:
            self._seen.add(kind)
            print(f"rlct: {brief(record.getMessage(), 1000, 400)}", file=sys.stderr)


def _parse(arguments: list[str]):  # noqa: ANN202 - one of the dataclasses of options.py
    """Parse, turning the parser's framed message into one sentence; None after ``--help``."""
    import tyro

    from llc.cli.options import Command

    if arguments in (["--version"], ["-V"]):
        import llc

        try:
            print(f"rlct {llc.__version__}", flush=True)
        except OSError as error:
            raise InputError(_said(error)) from error
        return None
    if arguments in (["--help"], ["-h"]):
        from llc.cli.overview import overview

        print(overview(COMMANDS, DESCRIPTION))
        return None
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                Command,
                prog="rlct",
                description=DESCRIPTION,
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            return None
        raise InputError(_sentence(said.getvalue(), arguments)) from None


def _sentence(framed: str, arguments: list[str]) -> str:
    """Take the words out of the parser's box, drawn in lines or, on old terminals, in ASCII."""
    lines = [line.strip("│ ") for line in framed.splitlines()]
    if "╭" not in framed:
        # ASCII frames have no sides; their title is a line of its own above the first rule.
        rules = [n for n, line in enumerate(lines) if re.match("-{5}", line)]
        lines = lines[rules[0] + 1 :] if rules else lines
    body: list[str] = []
    for line in lines:
        if line.startswith("╭"):
            continue
        if re.match(r"[─-]{5}|╰|Got errors", line):
            break
        body.append(line)
    # A narrow terminal may have broken a line before a bracket.
    text = re.sub(r"\s+([),])", r"\1", " ".join(" ".join(body).split()))
    command = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    help_ = " ".join(["rlct", command, "--help"]) if command in COMMANDS else "rlct --help"
    unknown = re.match(r"Unrecognized (?:or misplaced )?options: (\S+?)(,|\s|$)", text)
    if unknown and command not in COMMANDS:
        known = f"{', '.join(COMMANDS[:-1])} or {COMMANDS[-1]}"
        return f"unknown command {unknown.group(1)}, expected {known}; see {help_}"
    if unknown:
        return _unknown_flag(unknown.group(1), command, help_)
    text = text.replace("{None}|", "").replace(" (required)", "").rstrip(". ")
    missing = re.match(r"Missing from (rlct \w+)", text)
    # A flag or a place, then its help, whose first word has a capital.
    needed = re.findall(r"(?:: |\. )((?:--[\w-]+ )?[A-Z_]{2,}(?: [A-Z_]{2,})*)(?= [A-Z])", text)
    if missing and needed:
        such = ", such as --task my_task.py:task" if "--task TASK" in needed else ""
        return f"{missing.group(1)} needs {' and '.join(needed)}{such}; see {help_}"
    return f"{text or 'the command line cannot be read'}; see {help_}"


def _unknown_flag(flag: str, command: str, help_: str) -> str:
    from dataclasses import fields

    from llc.cli import options

    kind = getattr(options, command.capitalize(), None)
    names = [] if kind is None else [f"--{f.name.replace('_', '-')}" for f in fields(kind)]
    close = difflib.get_close_matches(flag, names, 1)
    hint = f", did you mean {close[0]}?" if close else ", expected one of its flags:"
    return f"unknown argument {flag}{hint} see {help_}"
