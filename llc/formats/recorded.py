"""The numbers that a checkpoint file says beside its weights, read without the weights.

Ordering a run takes the step of every file, and the files may be gigabytes each. Of safetensors the
header is read, of a pickle its opcodes: they are walked with a stack of plain values on which
nothing is built, imported or called, and tensors are never touched.
"""

import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from llc.archives import UNREADABLE, read_arrays
from llc.errors import InputError, brief
from llc.files import read_json
from llc.formats.layouts import LAID_OUT, one_in
from llc.formats.pickled import MADE_HERE, modern, pickles_in, read_pickle

__all__ = ["EPOCHS", "STEPS", "header", "recorded", "recorded_in_arrays"]

STEPS = (
    "global_step", "global_steps", "step", "iteration", "iter", "iter_num", "num_updates",
)  # fmt: skip
"""What training scripts call the number of updates done, most telling first."""
EPOCHS = ("epoch",)
TRAINER = "trainer_state.json"
BUILT = {"collections.OrderedDict": lambda *_: {}, "_codecs.encode": lambda text, *_: _raw(text)}
OTHER = object()
"""Stands for whatever is neither a number, text, nor a plain container."""


def recorded(path: Path) -> dict[str, float]:
    """Return the numbers at the top level of a file, or in ``trainer_state.json`` beside it.

    Nothing is raised: a file that cannot be read says nothing, and whoever reads its weights says
    why.
    """
    try:
        file = one_in(path) if path.is_dir() else path
    except InputError:
        file = None
    found: dict[str, float] = {}
    try:
        if file is None or not file.is_file():
            pass
        elif file.suffix == ".safetensors":
            found = header(file)
        elif file.suffix == ".npz":
            found = recorded_in_arrays(read_arrays(file))
        else:
            found = _in_pickle(file)
    except (InputError, *UNREADABLE):
        pass
    beside = path if path.is_dir() else path.parent if LAID_OUT.match(path.name) else None
    return {**found, **(_of_trainer(beside / TRAINER) if beside else {})}


def header(path: Path) -> dict[str, float]:
    """Return the numbers in the header of a safetensors file.

    Raises:
        InputError: it is not one.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            raw = file.metadata() or {}
    except (SafetensorError, *UNREADABLE) as error:
        raise InputError(f"{path.name} is not a safetensors file: {brief(error)}") from error
    numbers = {}
    for key, value in sorted(raw.items()):
        try:
            numbers[key] = float(value)
        except ValueError:
            continue
    return numbers


def recorded_in_arrays(arrays: Mapping[str, Any]) -> dict[str, float]:
    """Return the arrays of one number that are named as steps or epochs are."""
    named = {key: arrays[key] for key in (*STEPS, *EPOCHS) if key in arrays}
    return {key: float(value) for key, value in named.items() if value.ndim == 0}


def _of_trainer(path: Path) -> dict[str, float]:
    try:
        return _numbers(read_json(path)) if path.is_file() else {}
    except UNREADABLE:
        return {}


def _in_pickle(path: Path) -> dict[str, float]:
    for stream in pickles_in(path):
        content = _content(stream)
        # Old files begin with a description of the machine.
        if isinstance(content, dict) and "little_endian" not in content:
            if any(content.get(key) is OTHER for key in (*STEPS, *EPOCHS)):
                # A tensor, which takes more than the opcodes.
                from_tensors = read_pickle(path)
                content = {k: _item(v) for k, v in from_tensors.items()}
            return _numbers(content)
    return {}


def _numbers(content: Any) -> dict[str, float]:
    if not isinstance(content, Mapping):
        return {}
    return {
        key: float(value)
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, int | float) and not isinstance(value, bool)
    }


def _item(value: Any) -> Any:
    return value.item() if getattr(value, "numel", lambda: 0)() == 1 else value


def _raw(text: Any) -> Any:
    return text.encode("latin1") if isinstance(text, str) else OTHER


def _content(stream: IO[bytes]) -> Any:
    """Walk one pickle; return its content, with OTHER for what is not plain."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(stream):
        name = opcode.name
        if name == "MARK":
            marks.append(len(stack))
        elif name == "STOP":
            return stack[-1]
        elif name.endswith("GET"):
            stack.append(memo[argument])
        elif name.endswith("PUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name not in ("PROTO", "FRAME"):
            before = opcode.stack_before
            slice_ = []
            if pickletools.markobject in before:
                start = marks.pop()
                slice_ = stack[start:]
                del stack[start:]
                before = before[: before.index(pickletools.markobject)]
            below = stack[len(stack) - len(before) :]
            del stack[len(stack) - len(before) :]
            made = MADE[name](argument, below, slice_) if name in MADE else _plain(argument)
            stack += [made] * len(opcode.stack_after)
    raise ValueError("it is cut short")


class _Named(str):
    """The name of a class or function that a pickle asks for."""

    __slots__ = ()


def _filled(target: Any, items: list[Any]) -> Any:
    if isinstance(target, dict):
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, str):
                target[key] = value
    return target


def _built(target: Any, state: Any) -> Any:
    if isinstance(target, STATEFUL):
        target.__setstate__(state)
    return target


def _called(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Named) or not isinstance(arguments, tuple):
        return OTHER
    make = BUILT.get(str(function)) or MADE_HERE.get(str(function))
    try:
        return OTHER if make is None else make(*arguments)
    except UNREADABLE:
        return OTHER


def _plain(argument: Any) -> Any:
    return argument if isinstance(argument, int | float | str | bytes) else OTHER


STATEFUL = tuple(made for made in MADE_HERE.values() if isinstance(made, type))
MADE: dict[str, Callable[[Any, list[Any], list[Any]], Any]] = {
    "SETITEM": lambda _, below, __: _filled(below[0], below[1:]),
    "SETITEMS": lambda _, below, items: _filled(below[0], items),
    "DICT": lambda _, __, items: _filled({}, items),
    "EMPTY_DICT": lambda *_: {},
    "TUPLE": lambda _, __, items: tuple(items),
    "NONE": lambda *_: None,
    "NEWTRUE": lambda *_: True,
    "NEWFALSE": lambda *_: False,
    "GLOBAL": lambda argument, *_: _Named(modern(*argument.split(" ", 1))),
    "STACK_GLOBAL": lambda _, below, __: _Named(modern(*map(str, below))),
    "REDUCE": lambda _, below, __: _called(*below),
    "NEWOBJ": lambda _, below, __: _called(*below),
    "BUILD": lambda _, below, __: _built(*below),
    **dict.fromkeys(("DUP", "APPEND", "APPENDS", "ADDITEMS"), lambda _, below, __: below[0]),
    **dict.fromkeys(
        ("EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"), lambda _, below, __: tuple(below)
    ),
}
"""What an opcode leaves on the stack, of its argument, what is below, and what is on the mark."""
