"""An estimate whose traces stay on disk until somebody looks at them."""

import dataclasses
from pathlib import Path

from llc.diagnostics import Array
from llc.estimation import Estimate

__all__ = ["TRACES", "KeptEstimate"]

TRACES = ("trace", "virial_trace")


class KeptEstimate(Estimate):
    """An `llc.Estimate` that reads ``trace`` and ``virial_trace`` from its file, each time anew.

    A trajectory of a thousand checkpoints would otherwise hold every draw of every chain.
    """

    @classmethod
    def of(cls, estimate: Estimate, path: Path) -> "KeptEstimate":
        """Return the same estimate, without its traces, which ``path`` keeps."""
        values = {f.name: getattr(estimate, f.name) for f in dataclasses.fields(Estimate)
                  if f.name not in TRACES}  # fmt: skip
        return cls(**values, trace=path, virial_trace=path)  # type: ignore[bad-argument-type]

    @property
    def trace(self) -> Array:  # type: ignore[bad-override]
        """Rise nβ(L − L(w*)) of every draw, shape ``(chain, draw)``.

        Raises:
            InputError: the file is gone or cannot be read.
        """
        return self._read("trace")

    @trace.setter
    def trace(self, value: "Array | Path") -> None:
        vars(self)["_trace"] = value

    @property
    def virial_trace(self) -> Array:  # type: ignore[bad-override]
        """Virial (V + R)/D of every draw, shape ``(chain, draw)``.

        Raises:
            InputError: the file is gone or cannot be read.
        """
        return self._read("virial_trace")

    @virial_trace.setter
    def virial_trace(self, value: "Array | Path") -> None:
        vars(self)["_virial_trace"] = value

    def _read(self, name: str) -> Array:
        held = vars(self)[f"_{name}"]
        return getattr(Estimate.load(held), name) if isinstance(held, Path) else held

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Estimate):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = Estimate.__hash__
