"""Pickles read without running anything they ask for.

A pickle names the functions and classes that make its content, and loading it the usual way calls
them. Here it is read as text first. What it names has to be on a short list: what tensors and plain
containers are made of, and things common in checkpoints of which nothing is needed (NumPy numbers,
paths, parsed arguments), for which inert stand-ins take their place. Anything more is refused, with
the names; `allowing` them puts stand-ins there too. In no case is a module imported, or a function
called, because a file says so; ``torch.load(weights_only=True)`` reads what is left.
"""

import _compat_pickle
import io
import os
import pickletools
import re
import threading
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from llc.archives import entry_of
from llc.errors import InputError

__all__ = [
    "ALLOWED", "MADE_HERE", "VARIABLE", "StandIn", "allowed", "allowing", "asked_for", "modern",
    "pickles_in", "read_pickle",
]  # fmt: skip

VARIABLE = "RLCT_ALLOW_GLOBALS"
"""Names between commas that pickles may ask for; in the environment, so that workers have it."""
_DTYPES = tuple(
    f"torch.{name}" for name, value in vars(torch).items() if isinstance(value, torch.dtype)
)
_STORAGES = tuple(f"torch.{name}" for name in vars(torch) if name.endswith("Storage"))
ALLOWED = frozenset((
    *_DTYPES,
    *_STORAGES,
    "torch.storage.UntypedStorage", "torch.Size", "torch.device", "torch.Tensor",
    "torch.nn.parameter.Parameter", "torch.serialization._get_layout",
    "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3", "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state", "torch._tensor._rebuild_from_type_v2",
    "torch._utils._rebuild_sparse_tensor",
    "collections.OrderedDict", "collections.Counter", "builtins.set", "builtins.complex",
    "_codecs.encode",
))  # fmt: skip
"""What tensors and plain containers are made of. Shorter than torch's own list: ``bytearray(n)``
would fill n bytes of memory, and quantised and nested tensors are no weights here; sparse ones
are buffers of graph networks, whose indices torch checks."""
INERT = (
    "argparse.Namespace", "types.SimpleNamespace", "pathlib.Path", "pathlib.PurePath",
    "pathlib.PosixPath", "pathlib.PurePosixPath", "pathlib.WindowsPath",
    "pathlib.PureWindowsPath", "pathlib._local.PosixPath", "pathlib._local.WindowsPath",
    "datetime.datetime", "datetime.date", "datetime.timedelta", "builtins.bytearray",
    "builtins.bytes", "builtins.frozenset", "builtins.slice", "builtins.range", "builtins.list",
    "builtins.dict", "builtins.tuple", "builtins.int", "builtins.float", "builtins.str",
    "builtins.bool", "builtins.object",
    "numpy.ndarray", "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct",
)  # fmt: skip
OF_TRAINING = "torch.optim."
"""Optimisers and schedulers, saved whole or named by their states: no weights are in them."""
NEVER = ("os", "sys", "posix", "nt", "subprocess", "builtins")
SHOWN = 8
OLD = 5
"""Pickles that torch's old format begins with: marks, content, keys of the storages behind."""
_LOCK = threading.Lock()


class StandIn:
    """What stands where a pickle asked for a class or function: takes everything, does nothing."""

    __slots__ = ()

    def __new__(cls, *_: Any, **__: Any) -> "StandIn":
        """Take arguments of every kind, and keep none."""
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        """Take what a pickle says of its content, and forget it."""


class Allowed(StandIn):
    """What stands where a pickle asked for a class that the user allowed, or one inside of it."""

    __slots__ = ()


class _Uncalled(type):
    def __call__(cls, *_: Any, **__: Any) -> Any:
        raise ValueError("it asks for a call of a class's attribute, which is not run")


class Attribute(StandIn, metaclass=_Uncalled):
    """What stands for another class's attribute: a method may be named, and is never called."""

    __slots__ = ()


def _attribute(owner: object = None, *_: object) -> type:
    """``builtins.getattr``, by which old pickles name methods and nested classes; reads nothing."""
    inside = isinstance(owner, type) and issubclass(owner, Allowed)
    return Allowed if inside else Attribute


def _mapping(*_: object) -> dict[Any, Any]:
    """``collections.defaultdict`` without its function; what is in it is kept."""
    return {}


def _list(items: object = (), *_: object) -> list[Any]:
    """``collections.deque``."""
    return list(items) if isinstance(items, list | tuple) else []


class _DType:
    """``numpy.dtype`` as a pickle describes it: a name, and an order of bytes."""

    def __init__(self, name: object = "", *_: Any) -> None:
        self.name, self.order = name, "="

    def __setstate__(self, state: Any) -> None:
        """Take the order of bytes; the rest is of structures and alignment."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|"):
            self.order = state[1]


def _number(kind: object = None, raw: object = b"") -> Any:
    """``numpy.core.multiarray.scalar`` for plain numbers, as Python's own; else a stand-in."""
    if not isinstance(kind, _DType) or not isinstance(raw, bytes):
        return StandIn()
    name = kind.name
    if not isinstance(name, str) or not re.fullmatch(r"[biuf][1248]", name):
        return StandIn()
    dtype = np.dtype(kind.order.replace("|", "=") + name)
    return np.frombuffer(raw, dtype, 1)[0].item() if len(raw) == dtype.itemsize else StandIn()


MADE_HERE = {
    "numpy.dtype": _DType,
    "numpy.core.multiarray.scalar": _number,
    "numpy._core.multiarray.scalar": _number,
    "builtins.getattr": _attribute,
    "collections.defaultdict": _mapping,
    "collections.deque": _list,
}
HIDDEN = {f"{__name__}.{kind.__name__}": kind for kind in (Allowed, Attribute)}
"""What `_attribute` returns; a pickle that names them is refused."""


def allowed() -> tuple[str, ...]:
    """Names that `allowing`, or the environment, lets pickles ask for beside the usual ones."""
    return tuple(filter(None, (each.strip() for each in os.environ.get(VARIABLE, "").split(","))))


@contextmanager
def allowing(names: Iterable[str] | None) -> Iterator[None]:
    """Let pickles name these, ``module.name``, here and in processes started from here.

    Stand-ins take their place: nothing of them is imported or run, and weights inside of them are
    not found.

    Raises:
        InputError: a name that is none, or one of a module that no checkpoint needs.
    """
    names = tuple(names or ())
    for name in names:
        if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", name):
            raise InputError(
                f"allow-globals is given {name!r}, expected names as module.name, such as "
                "mypackage.config.Config"
            )
        if name.split(".")[0] in NEVER:
            raise InputError(
                f"allow-globals is given {name}, which no checkpoint needs and an attack does: it "
                "cannot be allowed; do not trust this file"
            )
    before = os.environ.get(VARIABLE)
    if names:
        os.environ[VARIABLE] = ",".join(dict.fromkeys((*allowed(), *names)))
    try:
        yield
    finally:
        if names:
            if before is None:
                os.environ.pop(VARIABLE, None)
            else:
                os.environ[VARIABLE] = before


def asked_for(path: Path) -> list[str]:
    """Names of all functions and classes that a file's pickles ask for, in order; none is run.

    Raises:
        ValueError: it is no pickle, nor an archive with one in it, or one broken or oversized.
    """
    return list(dict.fromkeys(_names_in(path)))


def read_pickle(path: Path) -> Any:
    """Read what ``torch.save`` wrote, old formats too; every tensor on the CPU.

    Raises:
        InputError: it is none, is broken, claims more than its size, or asks for more than tensors
            and plain values are made of.
    """
    try:
        wanted = asked_for(path)
    except MemoryError:
        raise InputError(f"{path.name} does not fit into memory") from None
    except Exception as error:  # whatever a broken file raises
        raise InputError(f"{path.name} is not a torch checkpoint: {_first(error)}") from error
    known = {*ALLOWED, *INERT, *MADE_HERE, *_by_the_user()}
    surplus = [name for name in wanted if name not in known]
    refused = [
        name for name in surplus
        if not name.startswith(OF_TRAINING)
        and (name not in allowed() or name.split(".")[0] in NEVER)
    ]  # fmt: skip
    if any(name.split(".")[0] in NEVER or name in HIDDEN for name in refused):
        raise InputError(
            f"{_asks(path.name, refused)}: no checkpoint needs that, do not trust this file"
        )
    if refused:
        raise InputError(f"{_asks(path.name, refused)}: {_advice(path, refused, surplus)}")
    try:
        return _loaded(path, surplus)
    except Exception as error:  # whatever a broken file raises
        raise InputError(f"{path.name} is not a torch checkpoint: {_first(error)}") from error


def _loaded(path: Path, surplus: Iterable[str]) -> Any:
    """Load a file with stand-ins for all that is not on the list."""
    inside = {**HIDDEN, **MADE_HERE, **{name: _stand_in(name) for name in INERT},
              **{name: _stand_in(name, Allowed) for name in surplus}}  # fmt: skip
    for name in _by_the_user():
        inside.pop(name, None)
    with _LOCK, warnings.catch_warnings(), torch.serialization.safe_globals(
        [(made, name) for name, made in inside.items()]  # pyrefly: ignore
    ):  # fmt: skip
        # Of pickle protocols and storages: nothing a user of the weights can act on.
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def _advice(path: Path, refused: list[str], surplus: list[str]) -> str:
    """What to do about a refusal, tried with stand-ins so that it does not lead to the next one."""

    def any_in(value: Any, depth: int = 4) -> bool:
        if isinstance(value, Mapping) and depth:
            return any(any_in(each, depth - 1) for each in value.values())
        return isinstance(value, torch.Tensor)

    place = ""
    try:
        content = _loaded(path, surplus)
    except Exception:  # whatever a broken file raises
        if not any("_parameters" in _texts(stream) for stream in pickles_in(path)):
            return "save model.state_dict() alone, since the rest cannot be read without its code"
    else:
        if any_in(content):
            return (
                "save model.state_dict() alone, or read what is beside the weights with "
                f"--allow-globals {' '.join(refused[:SHOWN])}"
            )
        if isinstance(content, Mapping):
            place = next((f"[{k!r}]" for k, v in content.items() if isinstance(v, StandIn)), "")
    return (
        "the weights are inside of a whole module or another object; where its code is at hand and "
        f"the file is trusted, write torch.save(torch.load({path.name!r}, weights_only=False)"
        f"{place}.state_dict(), 'weights.pt')"
    )


def _texts(stream: IO[bytes]) -> set[str]:
    return {argument for _, argument, _ in pickletools.genops(stream) if isinstance(argument, str)}


def _asks(name: str, refused: list[str]) -> str:
    more = f" and {len(refused) - SHOWN} more" if len(refused) > SHOWN else ""
    return (
        f"{name} holds pickled objects besides tensors and plain values, and asks for "
        f"{', '.join(refused[:SHOWN])}{more}, which is not run"
    )


def _by_the_user() -> set[str]:
    """What ``torch.serialization.add_safe_globals`` was given in this process."""
    named = set()
    for each in torch.serialization.get_safe_globals():
        if isinstance(each, tuple):
            named.add(each[1])
        else:
            named.add(f"{each.__module__}.{each.__qualname__}")
    return named


def _stand_in(name: str, kind: type = StandIn) -> type:
    # A class of its own each time: torch tells them apart by identity.
    return type(name.rpartition(".")[2], (kind,), {"__slots__": (), "__module__": __name__})


def _names_in(path: Path) -> Iterator[str]:
    for stream in pickles_in(path):
        yield from _named(stream)


def pickles_in(path: Path) -> Iterator[IO[bytes]]:
    """Yield the pickle inside an archive, or those that an old file begins with, each to be read.

    Raises:
        ValueError: it is not a pickle, nor an archive with one in it, or one broken or oversized.
    """
    if zipfile.is_zipfile(path):
        if entry_of(path, "constants.pkl") is not None:
            raise ValueError(
                "it is a TorchScript archive, which holds code: write torch.save(torch.jit.load("
                f"{path.name!r}).state_dict(), 'weights.pt')"
            )
        found = entry_of(path, "data.pkl")
        if found is None:
            raise ValueError("it is an archive without a torch checkpoint in it")
        yield io.BytesIO(found)
        return
    with path.open("rb") as file:
        for number in range(OLD):
            # As torch.save writes; of other files, text among them, some are pickles of protocol 0.
            start = file.read(1)
            if number and not start:
                return
            if start == b"P" and file.read(3) == b"K\x03\x04":
                raise ValueError("it is cut short, or not whole: save or copy it again")
            if start != b"\x80":
                raise ValueError("it starts like no pickle that torch reads")
            file.seek(-1, os.SEEK_CUR)
            yield file


def _named(stream: IO[bytes]) -> Iterator[str]:
    """Walk the opcodes of one pickle."""
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("GLOBAL", "INST"):
            yield modern(*str(argument).split(" ", 1))
        elif opcode.name == "STACK_GLOBAL":
            yield modern(*(["?", "?", *strings])[-2:])
        elif isinstance(argument, str):
            strings.append(argument)
        elif opcode.name in ("EXT1", "EXT2", "EXT4"):
            yield "copyreg.extension"


def modern(module: str, name: str) -> str:
    """Name a global as torch does it: Python 2's names for what Python 3 calls otherwise."""
    if (module, name) in _compat_pickle.NAME_MAPPING:
        module, name = _compat_pickle.NAME_MAPPING[module, name]
    elif module in _compat_pickle.IMPORT_MAPPING:
        module = _compat_pickle.IMPORT_MAPPING[module]
    return f"{module}.{name}"


def _first(error: BaseException) -> str:
    """Say what is wrong, without torch's advice to load the file unguarded."""
    text = " ".join(str(error).split())
    text = text.rpartition("WeightsUnpickler error:")[2].partition("Check the documentation")[0]
    return text.strip()[:240] or type(error).__name__
