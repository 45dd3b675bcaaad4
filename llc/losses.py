"""Loss functions by example, the chance level of each, and their behavioural counterparts."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn

from llc.errors import InputError

__all__ = [
    "IGNORED",
    "Loss",
    "for_own_outputs",
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
    """

    name: str
    function: LossFunction
    chance: Callable[[Tensor, Tensor], float] | None = None
    local_share: float = 0.25
    targets_from: Callable[[Tensor], Tensor] | None = None
    behavioural: "Loss | None" = None


def resolve(loss: str | LossFunction) -> Loss:
    """Turn a name or a function into a `Loss`.

    ``torch.nn.functional.cross_entropy``, ``nn.CrossEntropyLoss()`` and their mean-square
    twins with default options are recognised, so that they too give per-example values.

    Raises:
        InputError: the name is unknown, or the loss adds up over the batch.
    """
    if isinstance(loss, str):
        if loss not in _KNOWN:
            raise InputError(
                f"loss is {loss!r}, expected one of {', '.join(map(repr, _KNOWN))}, or a "
                "function of (outputs, targets)"
            )
        return _KNOWN[loss]
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
    if loss is F.cross_entropy or _is_plain(loss, nn.CrossEntropyLoss):
        return CROSS_ENTROPY
    if loss is F.mse_loss or _is_plain(loss, nn.MSELoss):
        return MSE
    return Loss(getattr(loss, "__name__", type(loss).__name__), loss)


def over_kept(loss: Loss, targets: Tensor) -> Loss:
    """Return cross-entropy as torch means it where targets are -100: a mean over all others.

    Ignored positions have no loss, and must not be divided by either: example by example the loss
    is the sum over positions kept over the average number kept, so that the mean over all examples
    is the mean over all positions kept. ``"cross_entropy_by_example"`` takes each example's own
    mean over its positions kept instead; one without any has loss 0.

    Raises:
        InputError: every target is -100.
    """
    if loss not in (CROSS_ENTROPY, BY_EXAMPLE) or targets.is_floating_point():
        return loss
    kept = (targets != IGNORED).double().mean().item()
    if kept == 0:
        raise InputError(f"every target is {IGNORED}, which cross_entropy ignores: give labels")
    if kept == 1 or loss is BY_EXAMPLE:
        return loss
    return replace(loss, function=lambda o, t: _cross_entropy(o, t) / kept)


def for_own_outputs(loss: Loss | None) -> Loss:
    """Return a loss that has a behavioural counterpart.

    Raises:
        InputError: it has none, or is None, another kind of loss.
    """
    if loss is None or loss.behavioural is None or loss.targets_from is None:
        given = "another kind of loss" if loss is None else f"a function, {loss.name}"
        raise InputError(
            "behavioural=True needs loss='cross_entropy' or 'mse', whose targets can be the "
            f"checkpoint's own outputs; got {given}: name one of these (scores (batch, positions, "
            "classes) need a model that ends in .movedim(-1, 1)), or leave behavioural out"
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
    return loss in _KNOWN.values()


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


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    _refuse_classes_last(outputs, targets)
    return _per_example(_each_cross_entropy(outputs, targets))


def _cross_entropy_by_example(outputs: Tensor, targets: Tensor) -> Tensor:
    _refuse_classes_last(outputs, targets)
    return _over_own(_each_cross_entropy(outputs, targets), targets != IGNORED)


def _each_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    if outputs.ndim > 2 and outputs.stride(1) == 1 and not targets.is_floating_point():
        # Logits of a language model, seen with classes in dimension 1: torch would copy them into
        # that order, and go through classes far apart in memory.
        rows = outputs.movedim(1, -1)
        values = F.cross_entropy(rows.flatten(0, -2), targets.flatten(), reduction="none")
        return values.reshape(targets.shape)
    return F.cross_entropy(outputs, targets, reduction="none")


def _refuse_classes_last(outputs: Tensor, targets: Tensor) -> None:
    """Say what to write where outputs are (batch, positions, classes), as language models give."""
    last = outputs.ndim > 2 and outputs.shape[:-1] == targets.shape
    if last and outputs.shape[:1] + outputs.shape[2:] != targets.shape:
        raise InputError(
            f"cross_entropy got outputs of shape {tuple(outputs.shape)} for targets of shape "
            f"{tuple(targets.shape)}, expected the classes in dimension 1: give the model's "
            "outputs.movedim(-1, 1), or, of a language model and its tokens, "
            "llc.language.huggingface.task(model, tokens)"
        )


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
    return _per_example((outputs - targets) ** 2)


def _kl_to_reference(outputs: Tensor, reference: Tensor) -> Tensor:
    """KL(reference ‖ softmax of outputs), classes in dimension 1; reference: log-probabilities."""
    return _per_example(_kl(outputs, reference))


def _kl_by_example(outputs: Tensor, reference: Tensor) -> Tensor:
    return _over_own(_kl(outputs, reference), reference.amax(1) > NEVER)


def _kl(outputs: Tensor, reference: Tensor) -> Tensor:
    weights = reference.exp()
    entropy = -(weights * reference).sum(1)
    return -(weights * F.log_softmax(outputs, 1)).sum(1) - entropy


def _uniform_guess(outputs: Tensor, _targets: Tensor) -> float:
    return math.log(outputs.shape[1])


def _best_constant(_outputs: Tensor, targets: Tensor) -> float:
    return ((targets - targets.mean(0)) ** 2).mean().item()


def _log_softmax(outputs: Tensor) -> Tensor:
    return F.log_softmax(outputs, 1)


def _identity(outputs: Tensor) -> Tensor:
    return outputs


KL = Loss("kl", _kl_to_reference, _uniform_guess, 0.25)
CROSS_ENTROPY = Loss("cross_entropy", _cross_entropy, _uniform_guess, 0.25, _log_softmax, KL)
KL_BY_EXAMPLE = Loss("kl_by_example", _kl_by_example, _uniform_guess, 0.25)
BY_EXAMPLE = Loss(
    "cross_entropy_by_example", _cross_entropy_by_example, _uniform_guess, 0.25, _log_softmax,
    KL_BY_EXAMPLE,
)  # fmt: skip
BEHAVIOURAL_MSE = Loss("mse", _squared_error, _best_constant, 0.75)
MSE = Loss("mse", _squared_error, _best_constant, 0.75, _identity, BEHAVIOURAL_MSE)
_KNOWN = {"cross_entropy": CROSS_ENTROPY, "cross_entropy_by_example": BY_EXAMPLE, "mse": MSE}
