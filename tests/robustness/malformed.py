# ruff: noqa: E501 - lines of lists
"""Command lines, settings, task files, checkpoints and run folders, each with something wrong."""

import json
import random
import string

OPTIONS = {
    "numbers": ("--n-beta", "--gamma", "--step-size", "--precision", "--seconds", "--memory"),
    "counts": ("--chains", "--draws", "--burn-in", "--batch-size", "--budget", "--seed"),
    "words": ("--sampler", "--compile", "--preset", "--settings", "--device", "--only", "--data",
              "--length", "--weighting", "--allow-globals"),
}  # fmt: skip
VALUES = (
    "", " ", "-1", "0", "nan", "-inf", "inf", "1e999", "-1e-300", "1.5.2", "0x10", "1,5", "1/0",
    "true", "None", "null", "[]", "{}", "--", "-", "---", "--chains", "=", "%s", "%n", "{0}",
    "$(true)", "`true`", "../../etc", "/dev/null", "\\", "'", '"', "\t", "\n", "\r\n", "\x1b[31m",
    "é", "日本", "😀", "\udcff", "\u202e", "a" * 5000, "9" * 4400, "1" * 30, "²", "١", "hf:", "hf:@",
    "hf:{", "file.py:", ":task", "a:b:c", "builtins:print", "os:getcwd", "sys:exit", "math:pi",
)  # fmt: skip
SETTINGS = {
    "n_beta": 100.0, "gamma": 1.0, "sampler": "auto", "step_size": 0.01, "chains": 2, "draws": 5,
    "burn_in": 0, "batch_size": None, "precision": 0.05, "budget": None, "behavioural": False,
    "control_variate": False, "seed": 0, "only": None, "reasons": {},
}  # fmt: skip
WRONG = (
    "x", -1, 0.5, [], {}, [1], {"a": 1}, True, None, float("nan"), float("inf"), 10**400, "1",
    [[[]]], "é", -0.0, 1e308, "\x00",
)  # fmt: skip


def bases():
    """A line of every command but the two that need no file, each naming one that is broken."""
    task = ["--task", "my_task.py:task"]
    sampled = [*task, "--chains", "2", "--draws", "4", "--gamma", "1"]
    return [
        ["estimate", "broken.pt", *sampled],
        ["estimate", "absent.pt", *task, "--json", "--n-beta", "10", "--strict"],
        ["calibrate", "broken.pt", *sampled, "--out", "settings.json"],
        ["scale", "broken.pt", *task, "--gammas", "1,2"],
        ["symmetries", "broken.pt", *sampled, "--no-llc"],
        ["trace", "absent", *sampled, "--out", "run", "--workers", "1"],
        ["refine", "absent", *sampled, "--out", "run", "--parts", "weight"],
        ["plant", "broken.pt", *sampled, "--out", "run", "--exceptions", "0", "1"],
        ["mix", "broken.pt", "broken.pt", *sampled, "--out", "run"],
        ["basins", "absent", *task, "--count", "3"],
        ["fourier", "absent", *task, "--out", "fourier"],
        ["plot", "absent", "--figure", "portrait"],
        ["report", "absent", "-o", "page.html"],
        ["transitions", "absent", "--resamples", "3"],
        ["export", "absent", "--format", "csv"],
    ]


def mutated(line, generator):
    """One to three changes of a command line; its first word, the command, mostly stays."""
    line = list(line)
    for _ in range(generator.choice((1, 1, 2, 3))):
        place = generator.randrange(0 if generator.random() < 0.1 else 1, len(line) + 1)
        kind = generator.randrange(6)
        if kind == 0 and place < len(line):
            del line[place]
        elif kind == 1:
            line.insert(place, generator.choice(VALUES))
        elif kind == 2 and place < len(line):
            line[place] = generator.choice(VALUES)
        elif kind == 3:
            flags = [flag for group in OPTIONS.values() for flag in group]
            line[place:place] = [generator.choice(flags), generator.choice(VALUES)]
        elif kind == 4 and place < len(line):
            line[place] = scrambled(line[place], generator)
        elif place < len(line):
            other = generator.randrange(1, len(line)) if len(line) > 1 else 0
            line[place], line[other] = line[other], line[place]
    return line


def scrambled(text, generator):
    """A word with one character changed, added, or taken out."""
    place = generator.randrange(len(text) + 1)
    new = generator.choice(["", *string.printable.replace("h", "")])
    return text[:place] + new + text[place + generator.randrange(2) :]


def settings(generator):
    """Text of a settings file that cannot be meant."""
    known = dict(SETTINGS)
    kind = generator.randrange(5)
    if kind == 0:
        name = generator.choice(list(known))
        value = generator.choice(WRONG)
        return name, value, json.dumps({**known, name: value})
    if kind == 1:
        text = json.dumps(known)
        return "cut", None, text[: generator.randrange(len(text))]
    if kind == 2:
        return "unknown", None, json.dumps({**known, scrambled("gamma_", generator) + "?": 1})
    if kind == 3:
        value = generator.choice(WRONG)
        return "whole", None, json.dumps(value)
    deep = generator.choice(("[", '{"a":'))
    return "deep", None, deep * generator.choice((10, 10_000, 200_000))


TASKS = (
    "def task(:\n    pass", "def task():\nreturn 1", "\tdef task(): pass", "import nothing_at_all",
    "raise ValueError('x\\ny')", "raise SystemExit(0)", "import sys\nsys.exit(3)",
    "raise KeyError", "1/0", "def other(): pass", "task = 3", "task = None",
    "def task(): return None", "def task(): return 5", "def task(a, b): return a",
    "def task(): raise SystemExit", "def task(): raise OSError(28, 'No space left')",
    "def task(): raise MemoryError", "def task(): return task()", "def task(): yield 1",  "class task: pass", "import llc\ndef task(): return llc.Task(1)",
    "def task(): raise GeneratorExit", "def task(): assert False",
    "import llc\ndef task(): return llc.Task(None, None, None)",
    "import llc, torch\ndef task(): return llc.Task(torch.nn.Linear(3, 2), [], 'mse')",
    "import llc, torch\ndef task(): return llc.Task(torch.nn.Linear(3, 2), None, 'mse')",
    "import llc, torch\nX = torch.zeros(4, 3)\n"
    "def task(): return llc.Task(torch.nn.Linear(3, 2), (X, X), 'nothing')",
    "import llc, torch\nX = torch.zeros(4, 7)\n"
    "def task(): return llc.Task(torch.nn.Linear(3, 2), (X, X), 'mse')",
    "import llc, torch\nX = torch.zeros(4, 3)\ndef loss(o, t): raise RuntimeError('a\\nb')\n"
    "def task(): return llc.Task(torch.nn.Linear(3, 2), (X, X), loss)",
    "import llc, torch\nX = torch.zeros(4, 3)\ndef loss(o, t): return 'text'\n"
    "def task(): return llc.Task(torch.nn.Linear(3, 2), (X, X), loss)",
    "import llc, torch\nX = torch.zeros(4, 3)\ndef loss(o, t): raise SystemExit\n"
    "def task(): return llc.Task(torch.nn.Linear(3, 2), (X, X), loss)",
    "\x00", "\xff\xfe", "# -*- coding: nothing -*-", "(" * 300, "f'{'", "from __future__ import braces",
    "print(" + "(" * 90 + ")" * 90 + ")\ndef task(): return 1", "return 1", "await x", "a = b = c",
)  # fmt: skip


def damaged(raw, generator):
    """Bytes of a file, cut short, changed, doubled, or of another kind altogether."""
    raw = bytearray(raw)
    kind = generator.randrange(5)
    if kind == 0:
        return bytes(raw[: generator.randrange(len(raw))])
    if kind == 1:
        for _ in range(generator.randrange(1, 9)):
            raw[generator.randrange(min(len(raw), 600))] = generator.randrange(256)
        return bytes(raw)
    if kind == 2:
        return bytes(generator.randbytes(generator.randrange(200)))
    if kind == 3:
        return bytes(raw[generator.randrange(len(raw)) :])
    place = generator.randrange(len(raw))
    return bytes(raw[:place] + raw[place + generator.randrange(1, 40) :])


def meddled(text, generator):
    """JSON of a run folder with one value, anywhere in it, of another kind."""
    if generator.random() < 0.3:
        return damaged(text.encode(), generator)
    found = json.loads(text)
    spot, place = found, None
    while isinstance(spot, dict | list) and len(spot) and generator.random() < 0.9:
        place = spot
        key = generator.choice(list(spot)) if isinstance(spot, dict) else generator.randrange(
            len(spot)
        )  # fmt: skip
        spot = spot[key]
    if place is None:
        return json.dumps(generator.choice(WRONG)).encode()
    if generator.random() < 0.3:
        del place[key]
    else:
        place[key] = generator.choice(WRONG)
    return json.dumps(found).encode()


def seeded(number):
    return random.Random(f"malformed {number}")
