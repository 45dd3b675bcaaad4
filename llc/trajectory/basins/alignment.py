"""One checkpoint brought as near to another as the symmetries of its architecture allow."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from llc.symmetry import Symmetry, align, find_symmetries
from llc.task import Task

__all__ = ["Alignment"]


@dataclass(frozen=True)
class Alignment:
    """What is known of a task's symmetries.

    Attributes:
        symmetries: the task's own, else those that can be found; maybe none.
    """

    symmetries: tuple[Symmetry, ...]

    @classmethod
    def of(cls, task: Task) -> "Alignment":
        """Return the symmetries of a task."""
        own = task.symmetries
        return cls(tuple(find_symmetries(task.model) if own is None else own))

    @property
    def words(self) -> str:
        """Their names, one after another; or that there are none."""
        if not self.symmetries:
            return (
                "no aligned barriers: no symmetry of this model is known; declare some as "
                "llc.Task(..., symmetries=[...])"
            )
        return ", ".join(each.name or type(each).__name__ for each in self.symmetries)

    @property
    def key(self) -> str:
        """What tells them from others."""
        return repr(self.symmetries)

    def move(
        self, weights: Mapping[str, Tensor], reference: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Return weights of the same loss, as near to the reference as can be found."""
        return align(reference, weights, self.symmetries)
