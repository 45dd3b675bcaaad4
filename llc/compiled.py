"""Pure functions of tensors, recorded once for each set of shapes and replayed without Python.

On small models most of a sampler's time goes into Python and into the function transforms of
`torch.func`, not into arithmetic. A recording (`make_fx`) keeps the tensor operations and nothing
else; TorchScript's interpreter replays the same operations in the same order, several times
faster, for a tenth of a second of preparation. ``"inductor"`` goes on to fuse them through
``torch.compile``, which takes seconds and rounds differently.

What cannot be recorded, as control flow that looks at values, runs as it is, and says so.
"""

import linecache
import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from functools import cached_property, partial
from itertools import compress
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

__all__ = ["MODES", "Compiled"]

MODES = ("auto", "off", "trace", "inductor")

Program = Callable[..., tuple[Tensor, ...]]

# Operations that only look at memory in another way cost nothing worth fusing.
VIEWS = ("view", "expand", "transpose", "permute", "t.", "select", "slice", "unsqueeze", "squeeze",
         "detach", "alias", "getitem", "split", "reshape", "scalar_tensor", "unbind")  # fmt: skip
# Matrix products and convolutions are left to the same libraries by every way to run them.
PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "convolution", "dot", "linear")
# What fusing saved of the time of all other operations on a CPU, a byte they write: measured
# 0.15–0.25 ns; and what compiling has cost, so that both break even.
SAVED_A_BYTE = 2e-10
SAVED_AN_OPERATION = 1.5e-6
COMPILING = 15.0
# From so many numbers on, arithmetic leaves nothing to gain from sparing Python its work, and
# recording would keep every intermediate result in memory at once.
LARGE = 2**22
ROUNDINGS = 1e3
FUSED_ROUNDINGS = 1e4
MOST_RECORDINGS = 64
_RECORDINGS: dict[Any, "_Recording"] = {}

# Set while a function is recorded, or compared with its recording: what it calls runs plainly.
_PLAINLY: ContextVar[bool] = ContextVar("plainly", default=False)


class Compiled:
    """A pure function of tensors (or None) that returns a tuple of tensors.

    Args:
        function: the function. It must depend on nothing but its arguments and on tensors that
            never change, and may not change any.
        mode: ``"off"`` calls it; ``"trace"`` replays a recording; ``"inductor"`` compiles the
            recording; ``"auto"`` starts with the recording and compiles it once the calls so far
            would have saved as much time as compiling takes. That is a matter of counts, not of
            clocks, so that two runs do the same.

    Attributes:
        notes: why something ran otherwise than asked for.
    """

    def __init__(self, function: Program, mode: str = "auto") -> None:
        self._function = function
        self.mode = mode
        self._calls: dict[Any, _Call] = {}
        self.notes: list[str] = []

    def __call__(self, *args: Tensor | None) -> tuple[Tensor, ...]:
        """Return what the function returns."""
        return self.bind(*args)(*args)

    def bind(self, *args: Tensor | None) -> Program:
        """Return what runs for arguments of these shapes, to be called with such arguments."""
        if self.mode == "off" or _PLAINLY.get():
            return self._function
        key = tuple(None if a is None else (a.shape, a.dtype) for a in args)
        call = self._calls.get(key)
        if call is None:
            if self.mode == "auto" and _is_large(args):
                return self._function
            call = self._calls[key] = self._prepare(args)
        return call

    @property
    def how(self) -> str:
        """How the function ran last: ``"off"``, ``"trace"`` or ``"inductor"``."""
        names = [call.how for call in self._calls.values()]
        return names[-1] if names else "off"

    def _prepare(self, args: tuple[Tensor | None, ...]) -> "_Call":
        there = [a is not None for a in args]

        def function(*tensors: Tensor) -> tuple[Tensor, ...]:
            rest = iter(tensors)
            return tuple(self._function(*[next(rest) if given else None for given in there]))

        return _Call(function, [a for a in args if a is not None], there, self.mode, self.notes)


def _is_large(args: tuple[Tensor | None, ...]) -> bool:
    return any(a is not None and a.numel() > LARGE for a in args)


class _Call:
    """What runs for one set of shapes."""

    def __init__(
        self,
        function: Program,
        args: list[Tensor],
        there: list[bool],
        mode: str,
        notes: list[str],
    ) -> None:
        self.how = "off"
        self._run = function
        self._notes = notes
        self._there = None if all(there) else there
        self._left = math.inf
        self._recording: _Recording | None = None
        self._constants: list[Tensor] = []
        token = _PLAINLY.set(True)
        try:
            recording, constants = _record(function, args)
            program = partial(recording.replay, *constants)
            if not _agree(program, function, args, ROUNDINGS):
                raise ValueError("the recording gives other values: something in the model "
                                 "depends on values, or changes from call to call")  # fmt: skip
        except Exception as error:  # whatever a model raises, the function itself serves
            notes.append(f"not recorded: {_short(error)}")
            return
        finally:
            _PLAINLY.reset(token)
        self._run, self.how = program, "trace"
        self._recording, self._constants = recording, constants
        if mode == "inductor":
            self._fuse(args)
        elif mode == "auto":
            self._left = COMPILING / recording.saving

    def __call__(self, *args: Tensor | None) -> tuple[Tensor, ...]:
        given: Any = args if self._there is None else tuple(compress(args, self._there))
        self._left -= 1
        if self._left <= 0:
            self._left = math.inf
            self._fuse(list(given))
        with torch.no_grad():
            return self._run(*given)

    def _fuse(self, args: list[Tensor]) -> None:
        assert self._recording is not None
        try:
            program = partial(self._recording.fused, *self._constants)
            # Compiling happens at the first call, and warns of torch's own affairs.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                agree = _agree(program, self._run, args, FUSED_ROUNDINGS)
            if not agree:
                raise ValueError("compiled values differ from those of the recording")
        except Exception as error:  # no compiler on this machine, or an operation it lacks
            self._notes.append(f"not compiled: {_short(error)}")
            return
        self._run, self.how = program, "inductor"


class _Recording:
    """A graph of tensor operations, constants among its inputs, and ways to run it."""

    def __init__(self, graph: Any, args: list[Tensor]) -> None:
        self._graph = graph
        self.saving = _saving(graph)
        for node in graph.graph.nodes:
            node.meta.clear()
        self.replay: Program
        try:
            with warnings.catch_warnings(), torch.no_grad():
                # Deprecated in favour of torch.compile, which cannot do this: the same kernels,
                # in the same order, in a fiftieth of a second. The graph serves too, slower.
                warnings.simplefilter("ignore")
                program: Any = torch.jit.trace(
                    graph, tuple(args), check_trace=False, _store_inputs=False
                )
            self.replay = program
        except Exception:  # an operation that TorchScript does not know
            self.replay = graph

    @cached_property
    def fused(self) -> Program:
        """The graph through ``torch.compile``."""
        return torch.compile(self._graph, dynamic=False, fullgraph=True)


def _record(function: Program, args: list[Tensor]) -> tuple[_Recording, list[Tensor]]:
    """Record a function; return the recording and the constants it needs as first arguments.

    Checkpoints of one architecture differ in their constants only: they share a recording, and
    what has been compiled from it.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    known = _sources()
    with _one_fake_mode():
        graph: Any = make_fx(function)(*args)
    _refuse_shapes_by_value(graph)
    constants = _lift_constants(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    kinds = [(t.shape, t.stride(), t.dtype, t.device) for t in (*constants, *args)]
    key = (graph.code, *kinds)
    if key not in _RECORDINGS:
        while len(_RECORDINGS) >= MOST_RECORDINGS:
            _RECORDINGS.pop(next(iter(_RECORDINGS)))
        _RECORDINGS[key] = _Recording(graph, [*constants, *args])
    else:
        _forget(known)
    return _RECORDINGS[key], constants


def _sources() -> dict[str, Any]:
    """Where torch keeps the text of every graph it has ever built, or nothing if elsewhere."""
    from torch.fx import graph_module

    held = getattr(getattr(graph_module, "_loader", None), "eval_cache", None)
    return dict(held) if isinstance(held, dict) else {}


def _forget(known: dict[str, Any]) -> None:
    """Let go of the text of a graph that serves no more: 30 kB a checkpoint, for good otherwise."""
    from torch.fx import graph_module

    held = getattr(getattr(graph_module, "_loader", None), "eval_cache", None)
    if isinstance(held, dict):
        for name in [name for name in held if name not in known]:
            del held[name]
            linecache.cache.pop(name, None)


def _one_fake_mode() -> AbstractContextManager[Any]:
    """Spare ``make_fx`` a mode of its own for every operation it describes: half of its time."""
    try:
        from torch._guards import TracingContext, tracing
        from torch._subclasses.fake_tensor import FakeTensorMode

        return tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True)))
    except (ImportError, TypeError):  # not part of torch's public interface
        return nullcontext()


def _refuse_shapes_by_value(graph: Any) -> None:
    """Refuse operations whose result has a shape that depends on values, as ``x[mask]`` has.

    A recording would keep the shapes of the batch it was made with.
    """
    for node in graph.graph.nodes:
        if torch.Tag.dynamic_output_shape not in getattr(node.target, "tags", ()):
            continue
        if str(node.target).startswith("aten.index.Tensor"):
            # Whole numbers pick as many as they are; only masks do not.
            kinds = {i.meta["val"].dtype for i in node.args[1] if i is not None}
            if not kinds & {torch.bool, torch.uint8}:
                continue
        raise ValueError(f"{node.target} gives a shape that depends on values")


def _lift_constants(graph: Any) -> list[Tensor]:
    """Turn the tensors that a graph holds into its first inputs; return them."""
    first = next(iter(graph.graph.nodes))
    constants: dict[str, Tensor] = {}
    inputs: dict[str, Any] = {}
    for node in [n for n in graph.graph.nodes if n.op == "get_attr"]:
        if node.target not in constants:
            constants[node.target] = attrgetter(node.target)(graph)
            with graph.graph.inserting_before(first):
                inputs[node.target] = graph.graph.placeholder(f"constant_{len(inputs)}")
        node.replace_all_uses_with(inputs[node.target])
        graph.graph.erase_node(node)
    for name in constants:
        # Kept for other checkpoints, a graph must not keep the data of this one.
        delattr(graph, name)
    return list(constants.values())


def _saving(graph: Any) -> float:
    """Seconds that fusing saves a call, from what the operations write."""
    saved = 0.0
    for node in graph.graph.nodes:
        name = str(node.target).removeprefix("aten.")
        value = node.meta.get("val")
        if node.op != "call_function" or not isinstance(value, Tensor) or name.startswith(VIEWS):
            continue
        saved += SAVED_AN_OPERATION
        if not name.startswith(PRODUCTS):
            saved += SAVED_A_BYTE * value.numel() * value.element_size()
    return max(saved, 1e-9)


@torch.no_grad()
def _agree(program: Program, plain: Program, args: list[Tensor], roundings: float) -> bool:
    """Whether a program computes what the function does, elsewhere than where it was recorded.

    Up to so many roundings of the largest number: products of large matrices are not the same to
    the last bit wherever in memory they are.
    """
    elsewhere = [_elsewhere(a) for a in args]
    # The second call is the one that an optimising interpreter may treat differently.
    program(*args)
    for got, want in zip(program(*elsewhere), plain(*elsewhere), strict=True):
        scale = want.abs().max().nan_to_num().item() if want.numel() else 0.0
        close = roundings * torch.finfo(want.dtype).eps if want.is_floating_point() else 0.0
        if not torch.allclose(got, want, rtol=close, atol=close * scale, equal_nan=True):
            return False
    return True


def _elsewhere(tensor: Tensor) -> Tensor:
    """Other values of the same kind: indices in another order, numbers a little off."""
    if tensor.is_floating_point():
        return 0.9 * tensor + 1e-4
    return tensor.flip(-1) if tensor.ndim else tensor


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:240]}"
