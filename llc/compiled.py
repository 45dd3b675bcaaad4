"""Pure functions of tensors, recorded once for each set of shapes and replayed without Python.

On small models most of a sampler's time goes into Python and into the function transforms of
`torch.func`, not into arithmetic. A recording (`make_fx`) keeps the tensor operations and nothing
else; replayed by TorchScript's interpreter they run bit for bit as before, several times faster,
for a tenth of a second of preparation. ``"inductor"`` goes on to fuse them through
``torch.compile``, which takes seconds and rounds differently.

What cannot be recorded, as control flow that looks at values, runs as it is, and says so.
"""

import warnings
from collections.abc import Callable
from contextvars import ContextVar
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
        gentle: never go on to ``"inductor"`` by itself.

    Attributes:
        notes: why something ran otherwise than asked for.
    """

    def __init__(self, function: Program, mode: str = "auto", *, gentle: bool = False) -> None:
        self._function = function
        self.mode = mode
        self._gentle = gentle
        self._programs: dict[Any, _Recorded] = {}
        self.notes: list[str] = []

    def __call__(self, *args: Tensor | None) -> tuple[Tensor, ...]:
        """Return what the function returns."""
        if self.mode == "off" or _PLAINLY.get():
            return self._function(*args)
        key = tuple(None if a is None else (a.shape, a.dtype) for a in args)
        program = self._programs.get(key)
        if program is None:
            program = self._programs[key] = self._record(args)
        with torch.no_grad():
            return program(*[a for a in args if a is not None])

    @property
    def how(self) -> str:
        """How the function ran last: ``"off"``, ``"trace"`` or ``"inductor"``."""
        names = [program.how for program in self._programs.values()]
        return names[-1] if names else "off"

    def _record(self, args: tuple[Tensor | None, ...]) -> "_Recorded":
        there = [a for a in args if a is not None]

        def function(*tensors: Tensor) -> tuple[Tensor, ...]:
            rest = iter(tensors)
            return tuple(self._function(*[None if a is None else next(rest) for a in args]))

        return _Recorded(function, there, self.mode, self._gentle, self.notes)


class _Recorded:
    """The programs for one set of shapes, and which of them is in use."""

    def __init__(
        self,
        function: Program,
        args: list[Tensor],
        mode: str,
        gentle: bool,
        notes: list[str],
    ) -> None:
        self.how = "off"
        self._run = function
        self._notes = notes
        self._graph: Any = None
        self._left = float("inf")
        plain = _PLAINLY.set(True)
        try:
            self._graph, program = _replayable(function, args)
            if not _agree(program, function, args, exactly=args[0].device.type == "cpu"):
                raise ValueError("the recording gives other values: something in the model "
                                 "depends on values, or changes from call to call")  # fmt: skip
        except Exception as error:  # whatever a model raises, the function itself serves
            notes.append(f"not recorded: {_short(error)}")
            return
        finally:
            _PLAINLY.reset(plain)
        self._run, self.how = program, "trace"
        if mode == "inductor":
            self._compile(args)
        elif mode == "auto" and not gentle:
            self._left = COMPILING / _saving(self._graph)

    def __call__(self, *args: Tensor) -> tuple[Tensor, ...]:
        self._left -= 1
        if self._left <= 0:
            self._left = float("inf")
            self._compile(list(args))
        return self._run(*args)

    def _compile(self, args: list[Tensor]) -> None:
        try:
            program = _fused(self._graph)
            if not _agree(program, self._run, args, exactly=False):
                raise ValueError("compiled values differ from those of the recording")
        except Exception as error:  # no compiler on this machine, or an operation it lacks
            self._notes.append(f"not compiled: {_short(error)}")
            return
        self._run, self.how = program, "inductor"


def _replayable(function: Program, args: list[Tensor]) -> tuple[Any, Program]:
    """Record a function; return the graph, and a program that replays it."""
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(function)(*args)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # Deprecated in favour of torch.compile, which cannot do this: the same kernels, in
            # the same order, in a fiftieth of a second. Without it the graph serves, slower.
            warnings.simplefilter("ignore")
            program: Any = torch.jit.trace(graph, tuple(args), check_trace=False)
            return graph, program
    except Exception:  # an operation that TorchScript does not know
        return graph, graph


def _fused(graph: Any) -> Program:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.compile(graph, dynamic=False, fullgraph=True)


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
def _agree(program: Program, plain: Program, args: list[Tensor], *, exactly: bool) -> bool:
    """Whether a program computes what the function does, elsewhere than where it was recorded."""
    elsewhere = [_elsewhere(a) for a in args]
    # The second call is the one that an optimising interpreter may treat differently.
    program(*args)
    pairs = list(zip(program(*elsewhere), plain(*elsewhere), strict=True))
    if exactly:
        return all(torch.equal(got.nan_to_num(), want.nan_to_num()) for got, want in pairs)
    for got, want in pairs:
        scale = want.abs().max().nan_to_num().item() if want.numel() else 0.0
        if not torch.allclose(got, want, rtol=1e-3, atol=1e-3 * scale + 1e-6, equal_nan=True):
            return False
    return True


def _elsewhere(tensor: Tensor) -> Tensor:
    """Other values of the same kind: indices in another order, numbers a little off."""
    if tensor.is_floating_point():
        return 0.9 * tensor + 1e-4
    return tensor.flip(-1) if tensor.ndim else tensor


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
