"""Checkpoints at hand: read when needed, kept as long as there is room."""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from llc.errors import InputError
from llc.settings import Settings
from llc.task import Task
from llc.trajectory.basins.landscape import Landscape, Place
from llc.trajectory.fingerprints import fingerprint_weights
from llc.trajectory.sources import Item

__all__ = ["Shelf"]

ROOM = 2**30


class Shelf:
    """Checkpoints as places of one landscape.

    Args:
        task: the model, data and loss.
        items: checkpoints; those that cannot be used are put aside.
        data: evaluate on these instead of the task's own.
        device: where to compute; None keeps the model's own.

    Attributes:
        land: the loss.
        items: checkpoints that can be used.
        marks: fingerprint of each one's weights.
        skipped: step → sentence, for the others.

    Raises:
        InputError: fewer than two can be used.
    """

    def __init__(self, task: Task, items: Sequence[Item], data: Any, device: str | None) -> None:
        self._task = task
        self.items: list[Item] = []
        self.marks: list[str] = []
        self.skipped: dict[int, str] = {}
        self._places: OrderedDict[int, Place] = OrderedDict()
        land = None
        for item in items:
            try:
                weights = item.read()[0]
                at = task.at(weights)
                land = Landscape(at, data, device) if land is None else land
                place = land.place(at.model.state_dict())
                if not math.isfinite(land.loss(place)):
                    raise InputError("the loss at these weights is not finite")
            except InputError as error:
                self.skipped[item.step] = str(error)
                continue
            self.items.append(item)
            self.marks.append(fingerprint_weights(weights, "", Settings()))
            self._put(len(self.items) - 1, place)
        if land is None or len(self.items) < 2:
            step, why = next(iter(self.skipped.items()))
            raise InputError(
                f"{len(self.items)} of {len(items)} checkpoints can be used, expected at least 2; "
                f"step {step}: {why}"
            )
        self.land = land

    def place(self, number: int) -> Place:
        """Return a checkpoint as a place."""
        if number not in self._places:
            self._put(number, self.land.place(self.weights(number)))
        self._places.move_to_end(number)
        return self._places[number]

    def weights(self, number: int) -> Mapping[str, Tensor]:
        """Return a checkpoint's named weights."""
        return self._task.at(self.items[number].read()[0]).model.state_dict()

    def readers(self) -> "list[Any]":
        """Return what `llc.trajectory.basins.landscape.weights_of` reads, one a checkpoint."""
        return list(self.items)

    def _put(self, number: int, place: Place) -> None:
        self._places[number] = place
        size = place.vector.numel() * place.vector.element_size()
        while len(self._places) > max(2, ROOM // max(size, 1)):
            self._places.popitem(last=False)
