"""Loss functions by example, the chance level of each, and their behavioural counterparts."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llc.errors import InputError

__all__ = [
    "IGNORED",
    "Loss",
    "class_dimension",
    "for_own_outputs",
    "ignored_as_here",
    "is_known",
    "over_kept",
    "own_outputs",
    "own_targets",
    "resolve",
    "towards_own",
]

LossFunction = Callable[[Tensor, Tensor], Tensor]
IGNORED = -100
"""The target that torch's cross-entropy leaves out."""
NEVER = -1e4


@dataclass(frozen=True)
class Loss:
    """A loss of (outputs, targets) with what is known about it.

    Attributes:
        name: ``"cross_entropy"``, ``"cross_entropy_by_example"``, ``"mse"``, ``"kl"``,
            ``"kl_by_example"`` or the function's own name.
        function: (outputs, targets) → per-example values ``(batch,)`` or a scalar mean.
        chance: (outputs, targets) of the whole data set → loss of a guess that ignores the
            inputs, or None where that has no meaning.
        local_share: how far towards chance the loss may rise with the chains still counted as
            local: a quarter for losses in nats, where that is about one nat; three quarters for
            squares, whose scale against nβ is arbitrary, so that fluctuations of a single
            regular basin may already reach far.
        targets_from: outputs at w* → behavioural targets, or None.
        behavioural: the loss towards those targets, or None.
        arrange: (outputs, targets) → outputs with the classes in dimension 1; None where the loss
            is not a cross-entropy known here.
        options: how torch's cross-entropy is called, where it is another than the known ones.
    """

    name: str
    function: LossFunction
    chance: Callable[[Tensor, Tensor], float] | None = None
    local_share: float = 0.25
    targets_from: Callable[[Tensor], Tensor] | None = None
    behavioural: "Loss | None" = None
    arrange: Callable[[Tensor, Tensor], Tensor] | None = None
    options: "Options | None" = None


class Options(NamedTuple):
    """What torch's cross-entropy is called with."""

    weight: Tensor | None = None
    ignore_index: int = IGNORED
    reduction: str = "mean"
    label_smoothing: float = 0.0

    @property
    def plain(self) -> bool:
        """Whether it is the known cross-entropy but for the value that is ignored."""
        return self.weight is None and self.label_smoothing == 0 and self.reduction == "mean"


def resolve(loss: str | LossFunction, model: nn.Module | None = None) -> Loss:
    """Turn a name or a function into a `Loss`.

    ``torch.nn.functional.cross_entropy``, ``nn.CrossEntropyLoss()`` and their mean-square
    twins with default options are recognised, so that they too give per-example values. So is
    another ``ignore_index``, for targets as `ignored_as_here` returns them.

    Where outputs could have their classes in dimension 1 or last, the functions of torch mean
    dimension 1, as torch does; so does a model with an attribute ``classes_in_dimension_1``.

    Args:
        loss: the name or the function.
        model: what makes the outputs.

    Raises:
        InputError: the name is unknown, or the loss adds up over the batch.
    """
    if isinstance(loss, str):
        if loss not in _KNOWN:
            raise InputError(
                f"loss is {loss!r}, expected one of {', '.join(map(repr, _KNOWN))}, or a "
                "function of (outputs, targets)"
            )
        known = _KNOWN[loss]
        return _STATED.get(loss, known) if getattr(model, STATES, False) else known
    if not callable(loss):
        raise InputError(
            f"loss is a {type(loss).__name__}, expected 'cross_entropy', 'mse', or a function "
            "of (outputs, targets)"
        )
    if getattr(loss, "reduction", "mean") == "sum":
        raise InputError(
            "loss has reduction='sum', expected a mean or one value per example: use "
            "reduction='mean' or 'none'"
        )
    options = _options(loss)
    other = options is not None and options.plain and options.ignore_index != IGNORED
    if loss is F.cross_entropy or other or _is_plain(loss, nn.CrossEntropyLoss):
        return _STATED["cross_entropy"]
    if loss is F.mse_loss or _is_plain(loss, nn.MSELoss):
        return MSE
    return Loss(getattr(loss, "__name__", type(loss).__name__), loss, options=options)


def ignored_as_here(loss: str | LossFunction | None, targets: Tensor) -> Tensor:
    """Return targets with -100 where ``nn.CrossEntropyLoss(ignore_index=…)`` ignores another value.

    Targets of other losses, and such as hold no such value, are returned as they are.
    """
    options = _options(loss)
    if options is None or not options.plain or targets.is_floating_point():
        return targets
    ignored = targets.long() == options.ignore_index
    if options.ignore_index == IGNORED or not bool(ignored.any()):
        return targets
    return targets.long().masked_fill(ignored, IGNORED)


def over_kept(loss: Loss, targets: Tensor) -> Loss:
    """Return cross-entropy as torch means it where targets are -100: a mean over all others.

    Ignored positions have no loss, and must not be divided by either: example by example the loss
    is the sum over positions kept over the average number kept, so that the mean over all examples
    is the mean over all positions kept. ``"cross_entropy_by_example"`` takes each example's own
    mean over its positions kept instead; one without any has loss 0. Torch's cross-entropy with
    weights of classes is divided by the average weight over all positions.

    Raises:
        InputError: every target is ignored.
    """
    options = loss.options
    if targets.is_floating_point() or (options is None and loss.arrange is None):
        return loss
    ignored = IGNORED if options is None else options.ignore_index
    there = targets != ignored
    kept = there.double().mean().item()
    if kept == 0:
        raise InputError(f"every target is ignored by cross_entropy ({ignored}): give labels")
    if kept == 1 or loss.behavioural is KL_BY_EXAMPLE:
        return loss
    if options is None:
        towards = loss.function
        return replace(loss, function=lambda o, t: towards(o, t) / kept)
    if options.reduction != "mean":
        return loss
    weight, smoothing = options.weight, options.label_smoothing
    if weight is not None:
        own = weight.detach().cpu()[targets[there].long().cpu()]
        kept = own.double().sum().item() / targets.numel()

    def each(outputs: Tensor, targets: Tensor) -> Tensor:
        # A batch without any target kept has loss 0, where torch's mean is 0/0.
        values = F.cross_entropy(
            outputs, targets, weight, ignore_index=ignored, label_smoothing=smoothing,
            reduction="none",
        )  # fmt: skip
        return _per_example(values) / kept

    return replace(loss, function=each)


def for_own_outputs(loss: Loss | None) -> Loss:
    """Return a loss that has a behavioural counterpart.

    Raises:
        InputError: it has none, or is None, another kind of loss.
    """
    if loss is None or loss.behavioural is None or loss.targets_from is None:
        given = "another kind of loss" if loss is None else f"a function, {loss.name}"
        raise InputError(
            "behavioural=True needs loss='cross_entropy' or 'mse', whose targets can be the "
            f"checkpoint's own outputs; got {given}: name one of these, or leave behavioural out"
        )
    return loss


def own_outputs(loss: Loss, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Loss]:
    """Return behavioural targets, a checkpoint's own outputs, and the loss towards them.

    Positions whose target cross-entropy ignores stay ignored: their reference is certain of
    nothing, e^−10000 = 0 for every class, so that they add neither loss nor gradient, and the mean
    is one over the positions kept, as in `over_kept`.
    """
    return own_targets(loss, outputs, targets), towards_own(loss, targets)


def own_targets(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return a checkpoint's own outputs as targets, certain of nothing where these are ignored."""
    assert loss.targets_from is not None
    if loss.arrange is not None:
        outputs = loss.arrange(outputs, targets)
    reference = loss.targets_from(outputs)
    if loss.behavioural in (KL, KL_BY_EXAMPLE) and not targets.is_floating_point():
        # Not only where there are any: a look would keep chains from running side by side.
        reference = reference.masked_fill((targets == IGNORED).unsqueeze(1), NEVER)
    return reference


def towards_own(loss: Loss, targets: Tensor) -> Loss:
    """Return the loss towards a checkpoint's own outputs, a mean over positions kept."""
    assert loss.behavioural is not None
    towards = loss.behavioural
    if towards is not KL or targets.is_floating_point():
        return towards
    kept = (targets != IGNORED).double().mean().item()
    if kept == 1:
        return towards
    return replace(towards, function=lambda o, r: _kl_to_reference(o, r) / kept)


def is_known(loss: Loss) -> bool:
    """Whether a loss is one of those with a name here."""
    return loss in (*_KNOWN.values(), *_STATED.values())


def _is_plain(loss: object, kind: type[nn.Module]) -> bool:
    """Whether a loss module computes what its default construction computes."""
    if type(loss) is not kind:
        return False
    plain = vars(kind())
    given = vars(loss)
    hidden = {"reduction", "training"}
    return all(
        given.get(key) == plain[key]
        for key in plain
        if not key.startswith("_") and key not in hidden
    ) and not any(buffer is not None for buffer in getattr(loss, "_buffers", {}).values())


def _per_example(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1).mean(1)


def _options(loss: Any) -> Options | None:
    """How a loss calls torch's cross-entropy; None where it does not, or not for all we know."""
    if isinstance(loss, partial):
        known = loss.func is F.cross_entropy and not loss.args
        known = known and set(loss.keywords) <= set(Options._fields)
        return Options(**loss.keywords) if known else None
    if type(loss) is not nn.CrossEntropyLoss:
        return None
    return Options(*(getattr(loss, name) for name in Options._fields))


def class_dimension(outputs: Tensor, targets: Tensor, *, known: bool = True) -> int:
    """Return the dimension of outputs that holds the classes.

    It is 1, as torch has it, or the last one where only this fits targets of whole numbers, as with
    logits ``(batch, positions, classes)`` of a language model.

    Args:
        outputs: ``(batch, classes, ...)`` or ``(batch, ..., classes)``.
        targets: ``(batch, ...)``, or probabilities of the outputs' own shape.
        known: whether dimension 1 is meant where both fit.

    Raises:
        InputError: both fit, and nothing says which is meant.
    """
    if outputs.ndim < 3 or targets.is_floating_point() or outputs.shape[:-1] != targets.shape:
        return 1
    if outputs.shape[:1] + outputs.shape[2:] != targets.shape:
        return outputs.ndim - 1
    if known:
        return 1
    raise InputError(
        f"outputs of shape {tuple(outputs.shape)} for targets of shape {tuple(targets.shape)} may "
        "have their classes in dimension 1 or last: write loss=torch.nn.functional.cross_entropy "
        "if dimension 1 holds them; if the last one does, let the model end in .movedim(-1, 1) too"
    )


def _classes_in_front(outputs: Tensor, targets: Tensor, *, known: bool) -> Tensor:
    dimension = class_dimension(outputs, targets, known=known)
    return outputs if dimension == 1 else outputs.movedim(dimension, 1)


def _cross_entropy(outputs: Tensor, targets: Tensor, *, known: bool) -> Tensor:
    return _per_example(_each_cross_entropy(outputs, targets, known))


def _cross_entropy_by_example(outputs: Tensor, targets: Tensor, *, known: bool) -> Tensor:
    return _over_own(_each_cross_entropy(outputs, targets, known), targets != IGNORED)


def _each_cross_entropy(outputs: Tensor, targets: Tensor, known: bool) -> Tensor:
    outputs = _classes_in_front(outputs, targets, known=known)
    if not targets.is_floating_point():
        targets = targets.long()
    if outputs.ndim > 2 and outputs.stride(1) == 1 and not targets.is_floating_point():
        # Logits of a language model, seen with classes in dimension 1: torch would copy them into
        # that order, and go through classes far apart in memory.
        rows = outputs.movedim(1, -1)
        values = F.cross_entropy(rows.flatten(0, -2), targets.flatten(), reduction="none")
        return values.reshape(targets.shape)
    return F.cross_entropy(outputs, targets, reduction="none")


def _over_own(values: Tensor, kept: Tensor) -> Tensor:
    """Means over each example's own positions kept."""
    counts = kept.reshape(len(kept), -1).sum(1).clamp(min=1)
    return values.reshape(len(values), -1).sum(1) / counts


def _squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.shape != targets.shape:
        # Broadcasting (batch, 1) against (batch,) would silently compare every pair.
        raise InputError(
            f"loss 'mse' got outputs of shape {tuple(outputs.shape)} and targets of shape "
            f"{tuple(targets.shape)}, expected equal shapes: reshape the targets"
        )
    return _per_example((outputs - _real(targets, outputs.dtype)) ** 2)


def _real(targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Whole numbers and truth values as real ones."""
    if targets.is_floating_point() or targets.is_complex():
        return targets
    return targets.to(torch.promote_types(dtype, torch.float32))


def _kl_to_reference(outputs: Tensor, reference: Tensor) -> Tensor:
    """KL(reference ‖ softmax of outputs), classes in dimension 1; reference: log-probabilities."""
    return _per_example(_kl(outputs, reference))


def _kl_by_example(outputs: Tensor, reference: Tensor) -> Tensor:
    return _over_own(_kl(outputs, reference), reference.amax(1) > NEVER)


def _kl(outputs: Tensor, reference: Tensor) -> Tensor:
    if outputs.shape != reference.shape:
        outputs = outputs.movedim(-1, 1)
    weights = reference.exp()
    entropy = -(weights * reference).sum(1)
    return -(weights * F.log_softmax(outputs, 1)).sum(1) - entropy


def _uniform_guess(outputs: Tensor, targets: Tensor) -> float:
    # Targets that are probabilities have their classes in dimension 1, wherever outputs have them.
    classes = targets.shape[1] if targets.is_floating_point() else 0
    return math.log(classes or outputs.shape[class_dimension(outputs, targets[: len(outputs)])])


def _best_constant(outputs: Tensor, targets: Tensor) -> float:
    if bool((targets == targets[:1]).all()):
        return 0.0
    targets = _real(targets, outputs.dtype)
    return ((targets - targets.mean(0)) ** 2).mean().item()


def _log_softmax(outputs: Tensor) -> Tensor:
    return F.log_softmax(outputs, 1)


def _identity(outputs: Tensor) -> Tensor:
    return outputs


def _over_classes(known: bool) -> dict[str, Loss]:
    """Both cross-entropies; known: that classes are in dimension 1 where both fit."""
    arrange = partial(_classes_in_front, known=known)
    guess, log = _uniform_guess, _log_softmax
    mean = partial(_cross_entropy, known=known)
    own = partial(_cross_entropy_by_example, known=known)
    found = (
        Loss("cross_entropy", mean, guess, 0.25, log, KL, arrange),
        Loss("cross_entropy_by_example", own, guess, 0.25, log, KL_BY_EXAMPLE, arrange),
    )
    return {loss.name: loss for loss in found}


STATES = "classes_in_dimension_1"
"""Attribute of models that say so of themselves."""
KL = Loss("kl", _kl_to_reference, _uniform_guess, 0.25)
KL_BY_EXAMPLE = Loss("kl_by_example", _kl_by_example, _uniform_guess, 0.25)
BEHAVIOURAL_MSE = Loss("mse", _squared_error, _best_constant, 0.75)
MSE = Loss("mse", _squared_error, _best_constant, 0.75, _identity, BEHAVIOURAL_MSE)
_ASKED, _STATED = _over_classes(False), _over_classes(True)
_KNOWN = {**_ASKED, "mse": MSE}
