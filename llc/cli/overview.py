"""``rlct --help``: what each command is for, by what one has in hand."""

import inspect
import shutil
import textwrap
from collections.abc import Sequence

__all__ = ["overview"]

GROUPS = {
    "one checkpoint": ("estimate", "calibrate", "scale", "symmetries"),
    "a training run": ("trace", "refine", "fourier"),
    "a run folder that trace wrote": ("transitions", "basins", "plot", "report", "export"),
    "checkpoints to change": ("plant", "mix"),
    "nothing yet": ("demo", "doctor", "validate"),
}
WIDTH = 100
BEGIN = """\
Begin with     rlct demo linear-net
then with      rlct estimate CKPT --task my_task.py:task
where task()   returns llc.Task(model, (inputs, targets), "cross_entropy")
Every flag     rlct COMMAND --help
Completion     rlct --tyro-print-completion {bash,zsh}
"""


def overview(commands: Sequence[str], description: str) -> str:
    """Write the page: every command with the first line of its own help, in groups.

    Args:
        commands: all names; those of no group come last.
        description: of the program, in one line.
    """
    from llc.cli import options

    grouped = {name for names in GROUPS.values() for name in names}
    groups = {**GROUPS, "more": tuple(name for name in commands if name not in grouped)}
    width = min(shutil.get_terminal_size((WIDTH, 0)).columns, WIDTH)
    lines = ["usage: rlct COMMAND ...", "", *textwrap.wrap(description, width)]
    for title, names in groups.items():
        known = [name for name in names if name in commands]
        lines += ["", f"with {title}" if title != "more" else title] if known else []
        for name in known:
            # Of a docstring the first line is a whole sentence.
            said = (inspect.getdoc(getattr(options, name.capitalize())) or "").partition("\n")[0]
            lines += textwrap.wrap(
                said, width, initial_indent=f"  {name:<13}", subsequent_indent=" " * 15
            )
    return "\n".join([*lines, "", BEGIN.rstrip()])
