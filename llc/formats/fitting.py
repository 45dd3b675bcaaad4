"""A checkpoint's tensors put into a model by the model's own rules, then held against the file."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from llc.errors import InputError, some
from llc.formats.entries import is_extra, relabelled
from llc.formats.memory import Held, place_of, shared
from llc.formats.names import renamings, usual_prefixes
from llc.formats.weights import LOG

__all__ = ["fitted"]

COUNTER = "num_batches_tracked"
"""Read in no evaluation: where it is missing, or no whole number, nothing changes."""


def fitted(
    model: nn.Module, copied: Callable[[nn.Module], nn.Module], weights: Mapping[str, Any]
) -> nn.Module:
    """Return a copy of a model at other weights.

    The model's own ``load_state_dict`` decides what fits, with the hooks of its modules. Weights
    that need no gradient may be missing, and are then the model's own, as files of adapters have
    it. What is in the model afterwards is compared with what went in, tensor by tensor.

    Args:
        model: not changed.
        copied: makes a copy that is ours to change.
        weights: a state dict.

    Raises:
        InputError: names, shapes or kinds of the tensors do not fit; names that are one tensor in
            the model differ in the file.
    """
    if odd := [key for key in weights if not isinstance(key, str)]:
        raise InputError(
            f"the checkpoint holds {str(odd[0])[:60]!r}, a {type(odd[0]).__name__}, among its "
            "names, expected texts such as layer.weight: give model.state_dict()"
        )
    own = model.state_dict()
    without = [name for name, value in own.items() if isinstance(value, Tensor) and value.is_meta]
    if without:
        raise InputError(
            f"{without[0]} of {type(model).__name__} is on the meta device, where there are no "
            "values: build the model on the cpu"
        )
    given = usual_prefixes(weights, own)
    attempt = _Attempt.of(copied(model), given, own)
    if attempt.names or attempt.failed:
        others = list(renamings(given, own, _needed(model, own)))
        if len(others) == 1:
            said, renamed = others[0]
            again = _Attempt.of(copied(model), renamed, own)
            if not again.problems:
                LOG.info("%s", said)
                attempt = again
    if attempt.problems:
        raise InputError(_refusal(type(model).__name__, attempt))
    attempt.compare()
    attempt.tell()
    return attempt.model


def _needed(model: nn.Module, own: Mapping[str, Any]) -> set[str]:
    """Names that a file has to hold, however it calls them."""
    trained = {n for n, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
    return {name for name in own if name in trained}


@dataclass
class _Attempt:
    """What came of loading weights into a copy.

    Attributes:
        model: the copy.
        missing: names that the file lacks and must have.
        surplus: names that the model does not know.
        shapes: what has another shape, in words.
        kinds: name → what is of another kind, in words.
        failed: what the model's own loading said, where it failed.
        lent: weights that are not in the file and need no gradient.
        taken: what each of the model's tensors was given, after hooks.
    """

    model: nn.Module
    missing: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    failed: str = ""
    lent: list[str] = field(default_factory=list)
    taken: dict[str, Tensor] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """What is wrong with names alone."""
        return self.missing + self.surplus

    @property
    def problems(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.names or self.shapes or self.kinds or self.failed)

    @classmethod
    def of(cls, model: nn.Module, weights: Mapping[str, Any], own: Mapping[str, Any]) -> "_Attempt":
        """Load weights into a model, which is changed."""
        found = cls(model)
        odd = {
            key: f"{key} is a {type(value).__name__}"
            for key, value in weights.items()
            if not isinstance(value, Tensor)
            and not is_extra(key)
            and isinstance(own.get(key, torch.empty(0)), Tensor)
        }
        if odd:
            found.kinds = odd
            return found
        complete = _with_aliases(weights, own)
        with found._watching():
            try:
                result: Any = model.load_state_dict(complete, strict=False)
            except InputError:
                raise
            except Exception as error:  # whatever a model's own hooks raise
                result = None
                found.failed = "" if found.shapes else _first(error)
        now = model.state_dict()
        for key in now:
            # Of modules that load by themselves, as scripted ones do.
            if key in complete and key not in found.taken and not found.shapes:
                found._look(key, complete[key], now[key])
        missing = [key for key in now if key not in complete]
        surplus = [key for key in complete if key not in now]
        missing = list(getattr(result, "missing_keys", missing))
        found.surplus = list(getattr(result, "unexpected_keys", surplus))
        held = Held(now[key] for key in now if key in found.taken)
        found._lend([key for key in missing if not held.covers(now.get(key))], complete)
        return found

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """See what each module is given once all other hooks have had their say."""
        handles = []
        for module in self.model.modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            hook = self._watch
            handles.append(module._register_load_state_dict_pre_hook(hook, with_module=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _watch(self, module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        for name, mine in (*module._parameters.items(), *module._buffers.items()):
            self._look(prefix + name, state.get(prefix + name), mine)
            if prefix + name in self.kinds:
                # Not for the model to cast, or to fail at.
                state.pop(prefix + name, None)

    def _look(self, key: str, given: Any, mine: Any) -> None:
        """Note what one of the model's tensors is given, and what speaks against it."""
        if not isinstance(mine, Tensor) or not isinstance(given, Tensor):
            return
        lazy, name = is_lazy(mine), key.rpartition(".")[2]
        wrong = _of_another_kind(given, mine, name)
        if wrong:
            self.kinds[key] = f"{key} is {wrong} and should be {_kind(mine)}"
        elif not lazy and given.shape != mine.shape and (given.numel(), mine.ndim) != (1, 0):
            self.shapes.append(f"{key} is {tuple(given.shape)} and should be {tuple(mine.shape)}")
        else:
            self.taken[key] = given

    def _lend(self, missing: list[str], given: Mapping[str, Any]) -> None:
        """Sort what is missing into what may be the model's own, and what may not."""
        known = dict(self.model.named_parameters(remove_duplicate=False))
        frozen = [key for key in missing if key in known and not known[key].requires_grad]
        modules = dict(self.model.named_modules(remove_duplicate=False))
        for key in missing:
            if key in self.kinds:
                continue
            place, _, name = key.rpartition(".")
            if name == COUNTER:
                continue
            buffer = key not in known and place in modules and name in modules[place]._buffers
            lent = key in frozen or is_extra(key)
            lent = lent or (bool(frozen) and buffer and _is_frozen(modules[place]))
            (self.lent if given and lent else self.missing).append(key)

    def compare(self) -> None:
        """Hold what is in the model against what went in.

        Raises:
            InputError: names that share memory in the model differ in the file, or numbers changed
                on their way though nothing in the model changes them.
        """
        now = self.model.state_dict()
        changed = [key for key, given in self.taken.items() if not _same(given, now.get(key))]
        for key in changed:
            others = [
                name for name in self.taken if name != key and shared(now.get(key), now.get(name))
            ]
            if others:
                raise InputError(
                    f"{key} and {others[0]} are one tensor in the model "
                    f"{type(self.model).__name__} and differ in the checkpoint: build the model "
                    "with weights of their own for each (untied), or leave out with drop (--drop) "
                    "the one that training did not use"
                )
            given, here = self.taken[key], now.get(key)
            if isinstance(here, Tensor) and not here.isfinite().all() and given.isfinite().all():
                raise InputError(
                    f"{key} holds numbers beyond the range of {here.dtype}, the model's dtype: "
                    "build the model in torch.float32"
                )
        if changed and not _has_hooks(self.model):
            raise InputError(
                f"{changed[0]} holds other numbers in the model {type(self.model).__name__} after "
                "loading than in the checkpoint: load it with model.load_state_dict and look"
            )
        if changed:
            LOG.info(
                "%d tensors were changed by the hooks of %s while loading (%s first)",
                len(changed), type(self.model).__name__, changed[0],
            )  # fmt: skip

    def tell(self) -> None:
        """Say what is the model's own."""
        if self.lent:
            LOG.info(
                "%d tensors of %s are not in the checkpoint and need no gradient (%s first): those "
                "of the task's own model are used",
                len(self.lent), type(self.model).__name__, self.lent[0],
            )  # fmt: skip


def _with_aliases(weights: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add the other names of tensors that go by several: files of safetensors hold one of them."""
    held = {place_of(own[key]): key for key in own if key in weights}
    more = {
        key: weights[held[place]]
        for key, value in own.items()
        if key not in weights and (place := place_of(value)) is not None and place in held
    }
    complete = relabelled(weights, {key: key for key in weights})
    complete.update(more)
    return complete


def _is_frozen(module: nn.Module) -> bool:
    """Whether training leaves a module's own buffers as they are, as far as can be seen."""
    own = list(module._parameters.values())
    trained = any(p is not None and p.requires_grad for p in own)
    # Batch norm keeps statistics: without weights nothing says whether it was frozen.
    return not trained and (bool(own) or not getattr(module, "track_running_stats", False))


def _kind(tensor: Tensor) -> str:
    """What sort of numbers a tensor holds, in a word."""
    if tensor.layout != torch.strided:
        return f"sparse {tensor.dtype}"
    return f"quantised {tensor.dtype}" if tensor.is_quantized else str(tensor.dtype)


def _of_another_kind(given: Tensor, own: Tensor, name: str) -> str:
    """Return what a tensor is if the model's own cannot hold its numbers; else nothing."""
    sorts = [
        (t.is_floating_point(), t.is_complex(), t.is_quantized, t.layout != torch.strided)
        for t in (given, own)
    ]
    if given.is_meta:
        return "on the meta device, without values,"
    if sorts[0] == sorts[1] and given.is_floating_point():
        return ""
    if any(sorts[1][:3]) or any(sorts[0][1:]):
        return "" if sorts[0] == sorts[1] else _kind(given)
    # Whole numbers and truth values: what the cast leaves as it is.
    if name == COUNTER or torch.equal(given.to(own.dtype).to(given.dtype), given):
        return ""
    return f"{given.dtype}, with numbers that {own.dtype} cannot hold,"


def _same(given: Tensor, here: Any) -> bool:
    """Whether a tensor holds what it was given, as its dtype has it; nan is nan."""
    if not isinstance(here, Tensor):
        return False
    try:
        expected = given.detach().to(here.device, here.dtype)
        if expected.is_sparse or here.is_sparse:
            expected, here = expected.to_dense(), here.to_dense()
        expected = expected.reshape(here.shape)
        same = torch.equal(expected, here)
        if not same and here.is_floating_point():
            same = torch.equal(expected.isnan(), here.isnan())
            same = same and torch.equal(expected.nan_to_num(), here.nan_to_num())
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        # Kinds that cannot be compared, as packed ones and those without a shape yet.
        return True
    if same and here.is_floating_point() and given.dtype != here.dtype:
        # Overflow is a cast as well, but not what anybody means.
        return bool(here.isfinite().all()) or not given.isfinite().all()
    return same


def _has_hooks(model: nn.Module) -> bool:
    """Whether anything in a model has a say in how it is loaded."""
    usual = (nn.Module._load_from_state_dict, nn.Module.load_state_dict)
    return any(
        module._load_state_dict_pre_hooks
        or module._load_state_dict_post_hooks
        or (type(module)._load_from_state_dict, type(module).load_state_dict) != usual
        for module in model.modules()
    )


def _refusal(name: str, attempt: _Attempt) -> str:
    problems = [
        f"{len(keys)} {what} ({some(keys)})"
        for what, keys in (
            ("missing", attempt.missing),
            ("not in the model", attempt.surplus),
            ("of another shape", attempt.shapes),
            ("of another kind", list(attempt.kinds.values())),
        )
        if keys
    ]
    if not problems:
        problems = [attempt.failed]
    advice = "build the model the checkpoint was saved from"
    if attempt.kinds and not attempt.names + attempt.shapes:
        advice = "give tensors of the kind that the model was trained in, not packed or quantised"
    if attempt.surplus and not (attempt.missing or attempt.shapes or attempt.kinds):
        first = attempt.surplus[0][:120]
        advice += f", or leave out what it does not use with --drop {first} (drop=[{first!r}])"
    if (
        attempt.missing
        and attempt.surplus
        and any(hasattr(module, "from_pretrained") for module in attempt.model.modules())
    ):
        advice += (
            "; files of transformers may hold other names than its modules: read each with "
            "from_pretrained, and give pairs (step, model.state_dict())"
        )
    return f"the checkpoint's tensors do not fit the model {name}: {'; '.join(problems)}: {advice}"


def _first(error: Exception) -> str:
    said = " ".join(str(error).split())[:300]
    return f"its load_state_dict failed with {type(error).__name__}: {said}"
