"""When relabelled data count as learned."""

import math

import torch
from torch import Tensor, nn

from llc import losses
from llc.errors import InputError
from llc.planting.relabelled import are_classes, pairs_of
from llc.task import Task

__all__ = ["Fitted"]

CHUNK = 4096
SHARE_OF_CHANCE = 0.01


class Fitted:
    """What a model has learned of relabelled data.

    Args:
        task: with its own targets.
        loss_below: mean loss at which examples count as fitted where targets are no classes; for
            the mean square 1 % of the best constant's unless given.

    Raises:
        InputError: ``loss_below`` is needed.
    """

    def __init__(self, task: Task, loss_below: float | None) -> None:
        assert task.loss is not None
        self.inputs, own = pairs_of(task)
        self.loss = losses.resolve(task.loss, task.model)
        self.classes = are_classes(task)
        self.below = math.inf if loss_below is None else loss_below
        if self.classes or loss_below is not None:
            return
        if self.loss.name != "mse" or self.loss.chance is None:
            raise InputError(
                f"loss {self.loss.name!r} does not say when an example is fitted: give "
                "loss_below, the mean loss at which examples count as fitted"
            )
        self.below = SHARE_OF_CHANCE * self.loss.chance(own, own)

    def __call__(self, model: nn.Module, targets: Tensor, chosen: Tensor) -> dict[str, float]:
        """Return the loss, and the shares fitted of all examples and of exceptions, if any."""
        outputs = _outputs(model, self.inputs)
        found = {"relabelled_loss": self._mean(outputs, targets)}
        everyone = torch.arange(len(targets))
        parts = {"examples_fitted": everyone, "exceptions_fitted": chosen}
        for name, which in parts.items():
            if len(which):
                found[name] = self._share(outputs[which], targets[which])
        return found

    def _share(self, outputs: Tensor, targets: Tensor) -> float:
        """Share fitted; where targets are no classes, 1 or 0."""
        if not self.classes:
            return float(self._mean(outputs, targets) < self.below)
        assert self.loss.arrange is not None
        outputs = self.loss.arrange(outputs, targets)
        ignored = targets == losses.IGNORED
        right = ((outputs.argmax(1) == targets) | ignored).reshape(len(targets), -1).all(1)
        return right.double().mean().item()

    def _mean(self, outputs: Tensor, targets: Tensor) -> float:
        function = losses.over_kept(self.loss, targets).function
        return function(outputs, targets).double().mean().item()


@torch.no_grad()
def _outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    device = next(model.parameters()).device
    parts = [
        model(inputs[start : start + CHUNK].to(device)) for start in range(0, len(inputs), CHUNK)
    ]
    return torch.cat(parts).to(inputs.device)
