"""Whether outputs and targets are what the name of a loss says, found before any sampling."""

from collections.abc import Iterable

import torch
from torch import Tensor

from llc.errors import InputError
from llc.losses import IGNORED, Loss, class_dimension

__all__ = ["check_outputs"]

MOST_NAMED = 3
ROUNDING, ROUNDING_OF_HALF = 1e-4, 1e-2


def check_outputs(
    loss: Loss, outputs: Tensor, targets: Tensor, elsewhere: Iterable[Tensor]
) -> None:
    """Refuse outputs and targets that cross-entropy does not take, or takes for something else.

    Args:
        loss: of losses other than cross-entropy nothing is known, and nothing asked.
        outputs: at w*, of the first few examples.
        targets: of all examples.
        elsewhere: outputs of other examples and at other weights; looked at only if those at w*
            could be probabilities.

    Raises:
        InputError: what is wrong, and what to write instead.
    """
    if loss.arrange is None:
        return
    if outputs.ndim < 2 or loss.arrange(outputs, targets[: len(outputs)]).shape[1] == 1:
        raise InputError(
            f"the model gives outputs of shape {tuple(outputs.shape)}, one class, for which "
            "cross_entropy is always 0: for labels of two values let the model give two outputs, "
            "or write loss=torch.nn.BCEWithLogitsLoss() with float targets of the outputs' shape"
        )
    if targets.is_floating_point():
        _check_orientation(outputs, targets[: len(outputs)])
    else:
        _check_shape(outputs, targets)
        _check_classes(outputs, targets)
    if _are_probabilities(loss.arrange(outputs, targets[: len(outputs)])):
        looks = (loss.arrange(other, targets[: len(other)]) for other in elsewhere)
        if all(map(_are_probabilities, looks)):
            raise InputError(
                "the model's outputs are probabilities already (none below 0, and they sum to 1 "
                "over the classes), but cross_entropy takes logits: end the model before its "
                "softmax, or with log_softmax instead"
            )


def _are_probabilities(outputs: Tensor) -> bool:
    """Whether all lie in [0, 1] and sum to 1 over the classes, in dimension 1."""
    half = outputs.dtype.itemsize < torch.float32.itemsize
    rounding = ROUNDING_OF_HALF if half else ROUNDING
    outputs = outputs.detach().float()
    inside = bool(((outputs >= 0) & (outputs <= 1 + rounding)).all())
    return inside and bool(((outputs.sum(1) - 1).abs() <= rounding).all())


def _check_orientation(outputs: Tensor, targets: Tensor) -> None:
    """Refuse probabilities as targets whose classes are last, where torch takes dimension 1."""
    if outputs.ndim < 3 or outputs.shape != targets.shape:
        return
    if not _are_probabilities(targets) and _are_probabilities(targets.movedim(-1, 1)):
        raise InputError(
            f"the targets of shape {tuple(targets.shape)} sum to 1 over the last dimension, but "
            "cross_entropy takes the classes of such targets in dimension 1: give "
            "targets.movedim(-1, 1), and let the model end in .movedim(-1, 1)"
        )


def _check_shape(outputs: Tensor, targets: Tensor) -> None:
    """Say what to write for two shapes of targets that are often given."""
    given, few = tuple(targets.shape), targets[: len(outputs)]
    if few.shape == outputs.shape and outputs.ndim == 2:
        raise InputError(
            f"the targets have shape {given} and whole numbers, expected classes of shape "
            f"({given[0]},): if they are one-hot, give targets.argmax(1)"
        )
    expected = outputs.shape[:1] + outputs.shape[2:]
    for where in (1, targets.ndim - 1):
        if 0 < where < targets.ndim and targets.shape[where] == 1:
            squeezed = few.squeeze(where).shape
            if squeezed in (expected, outputs.shape[:-1]) and few.shape != expected:
                raise InputError(
                    f"the targets have shape {given}, expected classes of shape "
                    f"{(given[0], *squeezed[1:])}: give targets.squeeze({where})"
                )


def _check_classes(outputs: Tensor, targets: Tensor) -> None:
    """Refuse whole numbers that are no class of the outputs."""
    classes = outputs.shape[class_dimension(outputs, targets[: len(outputs)])]
    targets = targets.long()
    outside = ((targets < 0) | (targets >= classes)) & (targets != IGNORED)
    if not bool(outside.any()):
        return
    values = targets[outside].unique()
    found = ", ".join(str(int(v)) for v in values[:MOST_NAMED])
    found += ", …" if len(values) > MOST_NAMED else ""
    said = f"the targets hold {found}, but the model has {classes} classes, 0 to {classes - 1}"
    kept = targets[~outside & (targets != IGNORED)]
    if len(values) > 1:
        raise InputError(
            f"{said}: give targets from 0 to {classes - 1}, or a model for all classes"
        )
    if int(values) == classes and len(kept) and int(kept.min()) > 0:
        raise InputError(f"{said}: give targets - 1 if they are counted from 1")
    raise InputError(
        f"{said}: if {found} marks what is to be left out, write {IGNORED} in its place, or "
        f"loss=torch.nn.CrossEntropyLoss(ignore_index={found})"
    )
