"""The examples that an epoch of a ``DataLoader`` yields."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    default_convert,
)

from llc.errors import InputError
from llc.isolation import undisturbed

__all__ = ["Collate", "of_loader"]

Collate = Callable[[list[Any]], Any]
# Whether an epoch always has the same examples. Of a part two epochs could agree by chance.
EPOCHS, EPOCHS_OF_PART = 2, 8
GIVE = "give the data set, or torch.utils.data.Subset(dataset, indices), instead"


def of_loader(loader: DataLoader) -> tuple[Any, Collate]:
    """Return the data set, or the part of it, that each epoch of a loader yields, and its collate.

    The loader's own samplers and generators are left as they are.

    Raises:
        InputError: an example comes twice in an epoch, or epochs differ in their examples.
    """
    dataset: Any = loader.dataset
    collate: Collate = loader.collate_fn
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        return dataset, collate
    drawn: Any = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    _refuse_by_kind(drawn)
    with undisturbed():
        keys, by_list = _keys(drawn, dataset)
    if loader.batch_sampler is None:
        if by_list:
            # Without a batch size of the loader's own, the data set itself is asked for lists.
            return keys, lambda some: collate(dataset[some])
        alone = isinstance(dataset, TensorDataset) and collate is default_convert
        collate = default_collate if alone else _one_by_one(collate)
    if len(keys) == len(dataset) and set(keys) == set(range(len(keys))):
        return dataset, collate
    return Subset(dataset, keys), collate


def _keys(drawn: Iterable[Any], dataset: Any) -> tuple[list[Any], bool]:
    """The keys of an epoch in order, and whether they come in lists."""
    words = _words(drawn)
    if isinstance(drawn, Iterator):
        raise InputError(
            f"{words}, an iterator that lasts for one epoch only: give a sampler that can be "
            "iterated over again, or the data set itself"
        )
    try:
        # A copy, since samplers count epochs and draw from generators of their own.
        own = copy.deepcopy(drawn, {id(dataset): dataset})
    except Exception:  # whatever a user's sampler holds
        own = drawn
    first, by_list = _epoch(own, 0, words)
    if not first:
        raise InputError(f"{words} and yields no example: give a smaller batch_size, or more data")
    part = len(first) < len(dataset)
    for number in range(1, EPOCHS_OF_PART if part else EPOCHS):
        again, _ = _epoch(own, number, words)
        if set(again) != set(first):
            dropped = getattr(drawn, "drop_last", False)
            raise InputError(
                f"{words} and yields {len(first):,} of {len(dataset):,} examples, different ones "
                "in each epoch, but n has to count fixed examples: "
                f"{'leave drop_last out' if dropped else GIVE}"
            )
    named = _inner(drawn)
    if isinstance(named, SubsetRandomSampler) and len(named.indices) == len(first):
        return [_key(k) for k in named.indices], by_list
    return sorted(first), by_list


def _epoch(drawn: Iterable[Any], number: int, words: str) -> tuple[list[Any], bool]:
    set_epoch = getattr(drawn, "set_epoch", None)
    if callable(set_epoch):
        set_epoch(number)
    found: dict[Any, None] = {}
    by_list = False
    try:
        for item in drawn:
            by_list = isinstance(item, list | tuple)
            for key in map(_key, item if by_list else [item]):
                if key in found:
                    raise InputError(
                        f"{words} and yields example {key} more than once in an epoch, but n has "
                        f"to count each example once: {GIVE}"
                    )
                found[key] = None
    except InputError:
        raise
    except Exception as error:  # whatever a user's sampler raises
        line = " ".join(str(error).split())[:200]
        raise InputError(f"{words} and fails, {type(error).__name__}: {line}; {GIVE}") from error
    return list(found), by_list


def _key(key: Any) -> Any:
    return key.item() if isinstance(key, Tensor) else key


def _inner(drawn: Any) -> Any:
    return drawn.sampler if isinstance(drawn, BatchSampler) else drawn


def _words(drawn: Any) -> str:
    drop = " with drop_last=True" if getattr(drawn, "drop_last", False) else ""
    return f"the DataLoader draws examples by a {type(_inner(drawn)).__name__}{drop}"


def _refuse_by_kind(drawn: Any) -> None:
    """Refuse samplers that are known not to yield a fixed set of examples once each."""
    sampler, why = _inner(drawn), ""
    if isinstance(sampler, WeightedRandomSampler):
        why = ", some more often than others, but n has to count each example once"
    elif isinstance(sampler, RandomSampler) and sampler.replacement:
        why = " with replacement, but n has to count each example once"
    elif isinstance(sampler, DistributedSampler) and sampler.num_replicas > 1:
        why = f", which gives this process only one part in {sampler.num_replicas}"
    if why:
        raise InputError(f"{_words(drawn)}{why}: {GIVE}")


def _one_by_one(collate: Collate) -> Collate:
    """Stack what a loader with ``batch_size=None`` gives example by example."""

    def stacked(items: Sequence[Any]) -> Any:
        found = [collate(item) for item in items]
        leaves = tree_leaves(found[0])
        rows = {len(x) if isinstance(x, Tensor) and x.ndim else None for x in leaves}
        if len(rows) == 1 and None not in rows:
            raise InputError(
                "the DataLoader has batch_size=None, and its items may be examples or batches: "
                "write DataLoader(dataset, batch_size=1) if each is one example, or give the "
                "batches joined by torch.cat"
            )
        return default_collate(found)

    return stacked
