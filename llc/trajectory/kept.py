"""An estimate whose traces stay on disk until somebody looks at them."""

import dataclasses
from pathlib import Path
from typing import Any

from llc.estimation import Estimate
from llc.estimation.estimate import TRACES

__all__ = ["TRACES", "KeptEstimate"]


def _on_disk(name: str) -> Any:
    """A field that is read from the file its estimate came from, each time anew."""

    def read(self: Any) -> Any:
        held = vars(self)[f"_{name}"]
        return getattr(Estimate.load(held), name) if isinstance(held, Path) else held

    def write(self: Any, value: Any) -> None:
        vars(self)[f"_{name}"] = value

    return property(read, write, doc=f"``{name}`` of `llc.Estimate`; InputError if it is gone.")


class KeptEstimate(Estimate):
    """An `llc.Estimate` that reads its traces from its file, each time anew.

    A trajectory of a thousand checkpoints would otherwise hold every draw of every chain.
    """

    trace = _on_disk("trace")
    burn_in_trace = _on_disk("burn_in_trace")
    virial_trace = _on_disk("virial_trace")

    @classmethod
    def of(cls, estimate: Estimate, path: Path) -> "KeptEstimate":
        """Return the same estimate, without its traces, which ``path`` keeps."""
        names = [f.name for f in dataclasses.fields(Estimate)]
        values: dict[str, Any] = {n: path if n in TRACES else getattr(estimate, n) for n in names}
        return cls(**values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Estimate):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = Estimate.__hash__
