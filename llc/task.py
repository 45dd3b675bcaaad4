"""A model with its data and loss: what is needed to ask for an LLC, named once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from llc import data as data_
from llc import losses
from llc.errors import InputError
from llc.errors import some as _some
from llc.formats import LOG, WRAPPERS
from llc.private import is_quantised, private_copy
from llc.symmetry import Symmetry

__all__ = ["Task"]


@dataclass(frozen=True, eq=False)
class Task:
    """A model at a centre w*, its data and its loss.

    Give exactly one of ``loss``, ``batch_loss`` and ``potential``.

    Args:
        model: any ``nn.Module``; its current weights are the centre w*. Never modified.
        data: a pair of tensors (inputs, targets), a list of examples, a map-style ``Dataset`` or a
            ``DataLoader``, of which n counts the examples of one epoch; for ``batch_loss`` any nest
            of tensors whose first dimension counts examples.
        loss: ``"cross_entropy"``, ``"mse"`` or a function of (outputs, targets) that returns
            one value per example, shape ``(batch,)``, or their mean. Cross-entropy takes logits
            with the classes in dimension 1, or last where only that fits the targets.
        batch_loss: a function of (model, batch) with the same two kinds of result.
        potential: a function of the model that returns a scalar; no data, and an explicit
            ``n_beta`` when estimating (population losses).
        name: what figures and run folders call it.
        readings: what `llc.trace` also measures at each checkpoint: a name for each pair
            (inputs, targets) of held-out data, for loss and accuracy, or for each function of the
            model that returns a number.
        symmetries: known symmetries of the model's weights, see `llc.symmetry`; None where nobody
            has said.

    Raises:
        InputError: none or several losses are given, or data, readings or symmetries cannot be
            used.
    """

    model: nn.Module
    data: Any = None
    loss: str | Callable[[Any, Any], Tensor] | None = None
    batch_loss: Callable[[nn.Module, Any], Tensor] | None = None
    potential: Callable[[nn.Module], Tensor] | None = None
    name: str | None = None
    readings: Mapping[str, Any] | None = None
    symmetries: Sequence[Symmetry] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.model, type) and issubclass(self.model, nn.Module):
            name = self.model.__name__
            raise InputError(f"model is the class {name}, expected an instance: write {name}(...)")
        if not isinstance(self.model, nn.Module):
            raise InputError(
                f"model is a {type(self.model).__name__}, expected an nn.Module with the weights w*"
            )
        given = [k for k in ("loss", "batch_loss", "potential") if getattr(self, k) is not None]
        if len(given) != 1:
            raise InputError(
                f"{' and '.join(given) or 'no loss'} given, expected exactly one of loss, "
                "batch_loss and potential"
            )
        for kind in ("batch_loss", "potential"):
            if getattr(self, kind) is not None and not callable(getattr(self, kind)):
                raise InputError(
                    f"{kind} is a {type(getattr(self, kind)).__name__}, expected a function"
                )
        object.__setattr__(self, "readings", self._checked(self.readings))
        if self.symmetries is not None:
            object.__setattr__(self, "symmetries", _symmetries(self.symmetries))
        if self.potential is not None:
            if self.data is not None:
                raise InputError("potential takes no data: drop data, or use batch_loss")
            return
        if self.data is None:
            raise InputError(
                f"{given[0]} needs data: give a pair of tensors, a map-style Dataset or a "
                "DataLoader"
            )
        object.__setattr__(self, "data", data_.materialise(self.data))
        if self.loss is not None:
            losses.resolve(self.loss)
            if not _is_pair(self.data):
                raise InputError(
                    f"data gives {_described(self.data)}, but loss(outputs, targets) needs pairs "
                    "(inputs, targets) of tensors: give such data, or instead of loss a "
                    "batch_loss(model, batch) that takes what the data give"
                )
            object.__setattr__(self, "data", self._with_ignored(self.data))

    def _with_ignored(self, data: Any) -> Any:
        """Write -100 where the loss ignores another value, as all that follows expects."""
        inputs, targets = data
        own = losses.ignored_as_here(self.loss, targets)
        return data if own is targets else (inputs, own)

    def _checked(self, readings: Any) -> dict[str, Any] | None:
        """Refuse readings that are neither data for the loss nor functions."""
        if readings is None:
            return None
        if not isinstance(readings, Mapping):
            raise InputError(
                f"readings is a {type(readings).__name__}, expected a dictionary such as "
                '{"test": (inputs, targets)}'
            )
        found: dict[str, Any] = {}
        for name, what in readings.items():
            if callable(what) and not isinstance(what, Sequence):
                found[str(name)] = what
                continue
            if self.loss is None:
                raise InputError(
                    f"reading {name!r} is data, but the task has no loss(outputs, targets): give a "
                    "function of the model that returns a number"
                )
            found[str(name)] = data_.materialise(what)
            if not _is_pair(found[str(name)]):
                raise InputError(
                    f"reading {name!r} is a {type(what).__name__}, expected a pair of tensors "
                    "(inputs, targets) or a function of the model"
                )
            found[str(name)] = self._with_ignored(found[str(name)])
        return found

    @classmethod
    def of(
        cls, model: "nn.Module | Task", data: Any, loss: Any, batch_loss: Any, potential: Any
    ) -> "Task":
        """Return the task that a function's first arguments name: given whole, or in parts.

        Raises:
            InputError: a task is given together with a part of one, or the parts cannot be used.
        """
        if not isinstance(model, Task):
            return cls(model, data, loss, batch_loss, potential)
        parts = {"data": data, "loss": loss, "batch_loss": batch_loss, "potential": potential}
        named = [name for name, value in parts.items() if value is not None]
        if named:
            raise InputError(f"a Task brings its own {named[0]}: drop {named[0]}")
        return model

    @property
    def size(self) -> int | None:
        """n, the number of examples, or None for a potential."""
        return None if self.data is None else data_.number_of_examples(self.data)

    @property
    def label(self) -> str:
        """The task's name, or its model's class."""
        return self.name or type(self.model).__name__

    def at(self, weights: Mapping[str, Tensor]) -> "Task":
        """Return the same task with its model at other weights; this task's model is untouched.

        Raises:
            InputError: keys or shapes do not fit the model.
        """
        if is_quantised(self.model):
            raise InputError(
                f"{type(self.model).__name__} is quantised, and its whole-number weights cannot be "
                "sampled: give the model, and checkpoints, from before quantisation"
            )
        own = self.model.state_dict()
        weights = _renamed(weights, own)
        # Tied weights appear under several names; files of safetensors hold one of them.
        held = {_memory(own[key]) for key in own if key in weights}
        missing = [key for key in own if key not in weights and _memory(own[key]) not in held]
        surplus = [key for key in weights if key not in own]
        shapes = [
            f"{key} is {tuple(weights[key].shape)} and should be {tuple(own[key].shape)}"
            for key in own
            if key in weights
            and all(map(_is_plain, (weights[key], own[key])))
            and weights[key].shape != own[key].shape
        ]
        problems = [
            f"{len(keys)} {what} ({_some(keys)})"
            for what, keys in (
                ("missing", missing),
                ("not in the model", surplus),
                ("of another shape", shapes),
            )
            if keys
        ]
        if problems:
            raise InputError(
                f"the checkpoint's tensors do not fit the model {type(self.model).__name__}: "
                f"{'; '.join(problems)}: build the model the checkpoint was saved from"
            )
        model = private_copy(self.model)
        model.load_state_dict(dict(weights), strict=False)
        return replace(self, model=model)


def _is_plain(value: Any) -> bool:
    """Whether it is a tensor with memory of its own, as sparse and uninitialised ones are not."""
    lazy = isinstance(value, nn.UninitializedParameter | nn.UninitializedBuffer)
    return isinstance(value, Tensor) and not lazy and value.layout is torch.strided


def _memory(value: Any) -> int:
    """What tells tied tensors from others."""
    return value.data_ptr() if _is_plain(value) else id(value)


def _symmetries(given: Any) -> tuple[Symmetry, ...]:
    found = tuple(given) if isinstance(given, Sequence) else (given,)
    odd = [item for item in found if not isinstance(item, Symmetry)]
    if odd:
        raise InputError(
            f"symmetries holds a {type(odd[0]).__name__}, expected llc.symmetry.Units, Heads or "
            "Offset"
        )
    return found


def _is_pair(data: Any) -> bool:
    pair = isinstance(data, tuple | list) and len(data) == 2
    return pair and all(isinstance(part, Tensor) for part in data)


def _described(data: Any) -> str:
    """What data that are no pair look like, in a user's words."""
    if isinstance(data, Tensor):
        return f"one tensor of shape {tuple(data.shape)}"
    if isinstance(data, Mapping):
        return f"dictionaries of {_some([repr(key) for key in data])}"
    if isinstance(data, tuple | list):
        return f"{len(data)} things an example"
    return f"a {type(data).__name__}"


def _renamed(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Put back a prefix that `load_weights` took for a wrapper's and that the model itself has.

    Or take off one that the model does not have, as Lightning's modules put before the weights of
    the network that they train; what else they hold, as a metric's state, is left out.
    """
    for prefix in WRAPPERS:
        named = all(key.startswith(prefix) for key in own)
        if named and not any(key.startswith(prefix) for key in weights):
            renamed = {prefix + key: value for key, value in weights.items()}
            return _without_prefix(renamed, own, prefix) or renamed
    return _without_prefix(weights, own, "") or weights


def _without_prefix(
    weights: Mapping[str, Tensor], own: Mapping[str, Tensor], before: str
) -> dict[str, Tensor] | None:
    """Take the prefix off under which alone all of the model's weights stand; None if none is."""
    if not own or any(key in weights for key in own):
        return None
    first = next(iter(own)).removeprefix(before)
    found = []
    for key in weights:
        prefix = key.removeprefix(before).removesuffix(first)
        if prefix.endswith(".") and key.endswith("." + first):
            inside = {
                before + k.removeprefix(before + prefix): value
                for k, value in weights.items()
                if k.startswith(before + prefix)
            }
            if set(own) <= set(inside):
                found.append((prefix, inside))
    if len(found) != 1:
        return None
    prefix, inside = found[0]
    rest = len(weights) - len(inside)
    LOG.info(
        "prefix %r of the checkpoint's names taken off%s",
        prefix, f", {rest} tensors without it left out" if rest else "",
    )  # fmt: skip
    return inside
