"""How an estimate is computed: device, memory, speed, and how long it may take."""

import math
import time
from dataclasses import dataclass, replace

import torch

from llc.compiled import MODES
from llc.errors import InputError
from llc.headroom import free_memory, in_words

__all__ = ["Execution", "free_memory", "in_words"]

SHARE_OF_FREE = 0.8
GIB = 2**30


@dataclass(frozen=True)
class Execution:
    """Where and how to compute.

    Attributes:
        device: where; None keeps the model's own.
        compile: ``"off"``, ``"trace"``, ``"inductor"`` or ``"auto"``; see `llc.compiled`.
        memory: GiB that chains may take; as many run side by side as fit, and the rest after
            them. None stands for 80 % of what is free.
        autocast: evaluate the model in bfloat16 where torch's autocast does, weights and their
            updates staying as they are.
        seconds: time an estimate may take, set-up and the choice of γ included; it ends with what
            it has by then, and says so. None sets no limit. Where the limit is what ends it, the
            same call need not give the same number twice.
        deadline: when that time is up, once an estimate has begun (`begun`).

    Raises:
        InputError: a mode that does not exist, or memory or time that is no positive number.
    """

    device: torch.device | str | None = None
    compile: str = "auto"
    memory: float | None = None
    autocast: bool = False
    seconds: float | None = None
    deadline: float | None = None

    def __post_init__(self) -> None:
        if self.compile not in MODES:
            raise InputError(f"compile is {self.compile!r}, expected one of {', '.join(MODES)}")
        for name, unit in (("memory", "GiB"), ("seconds", "seconds")):
            given = getattr(self, name)
            number = isinstance(given, int | float) and not isinstance(given, bool)
            if given is not None and not (number and math.isfinite(given) and given > 0):
                raise InputError(f"{name} is {given!r}, expected a number of {unit} above 0")

    def begun(self) -> "Execution":
        """Start the clock, unless it runs already."""
        if self.seconds is None or self.deadline is not None:
            return self
        return replace(self, deadline=time.perf_counter() + self.seconds)

    def first(self, share: float) -> "Execution":
        """Return the same, its time up when this share of it is over."""
        if self.seconds is None or self.deadline is None:
            return self
        rest = (1 - share) * self.seconds
        return replace(self, seconds=share * self.seconds, deadline=self.deadline - rest)

    def late(self, share: float = 1.0) -> bool:
        """Whether more than this share of the time is over."""
        if self.seconds is None or self.deadline is None:
            return False
        return time.perf_counter() > self.deadline - (1 - share) * self.seconds

    def limit(self, device: torch.device) -> float:
        """Bytes that chains may take on a device; infinity where nobody can tell."""
        if self.memory is not None:
            return self.memory * GIB
        return SHARE_OF_FREE * free_memory(device)
