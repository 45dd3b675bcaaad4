"""One checkpoint brought as near to another as the symmetries of its architecture allow."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from llc.task import Task

__all__ = ["Alignment"]


@dataclass(frozen=True)
class Alignment:
    """What is known of a task's symmetries.

    Attributes:
        known: whether there are any.
        words: which; or why there are none.
    """

    known: bool
    words: str

    @classmethod
    def of(cls, task: Task) -> "Alignment":
        """Return the symmetries of a task: its own, else those that can be found."""
        return cls(False, "no aligned barriers: no symmetry of this architecture is known")

    def move(
        self, weights: Mapping[str, Tensor], reference: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        return weights
