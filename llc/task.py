"""A model with its data and loss: what is needed to ask for an LLC, named once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from llc import data as data_
from llc import losses
from llc.errors import InputError
from llc.errors import some as _some
from llc.formats import fitted, overlap
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
        if pair := overlap(self.model):
            raise InputError(
                f"{pair[0]} and {pair[1]} share memory but are two tensors of "
                f"{type(self.model).__name__}, which would be moved apart: make them one parameter "
                "(model.a.weight = model.b.weight), or give each its own memory (.clone())"
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

        The model's own ``load_state_dict`` decides what fits. Weights that need no gradient may be
        missing, and are then this task's own.

        Raises:
            InputError: names, shapes or kinds of the tensors do not fit the model, or weights that
                are one in the model differ among them.
        """
        if is_quantised(self.model):
            raise InputError(
                f"{type(self.model).__name__} is quantised, and its whole-number weights cannot be "
                "sampled: give the model, and checkpoints, from before quantisation"
            )
        return replace(self, model=fitted(self.model, private_copy, weights))


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
