"""A data set read whole, example by example, into tensors."""

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.data import default_collate

from llc.errors import InputError
from llc.headroom import free_memory, in_words
from llc.isolation import undisturbed

__all__ = ["check", "read"]

CHUNK = 256
REREAD = 64
SHARE_OF_FREE = 0.8
SECONDS_WITHOUT_BAR = 2.0
MOST_NAMED = 3
COMPANY = (
    "the collate_fn of the DataLoader gives an example other values when its batch holds other "
    "examples, beyond padding by one constant up to the longest: give the data set a transform for "
    "each example alone, or pad all examples to one length"
)

Collate = Callable[[list[Any]], Any]


def read(dataset: Any, collate: Collate) -> Any:
    """Read every example of a map-style data set, and some, or all, a second time.

    Where a collate pads each batch to its longest example, all examples are put together at once,
    padded to the longest of all. Each has to be the same as in a smaller batch, padding left out.

    Some, spread over the whole, unless reading has moved a random generator of the process, which
    is where augmentation gets its numbers: then all. The generators are left as they were.

    Args:
        dataset: has a length and items by number.
        collate: a list of items → a nest of tensors, as of a ``DataLoader``.

    Returns:
        The nest, all examples in it.

    Raises:
        InputError: nothing to read, an example that cannot be read, examples that do not stack,
            do not fit into memory, or differ when read twice or put together with others.
    """
    size = len(dataset)
    if size == 0:
        raise InputError("data is an empty data set: give at least one example")
    with undisturbed():
        before = _state()
        first = _stacked(dataset, collate, range(min(CHUNK, size)))
        whole = _filled(first, dataset, collate) if size > CHUNK else first
        count = min(REREAD, size)
        again = range(size) if _state() != before else [k * size // count for k in range(count)]
        _read_again(whole, dataset, collate, again)
    return whole


def check(data: Any) -> None:
    """Refuse anything but tensors of one and the same number of examples, at least 1.

    Raises:
        InputError: as said.
    """
    leaves = _leaves(data)
    wrong = [type(leaf).__name__ for leaf in leaves if not isinstance(leaf, Tensor)]
    if wrong or not leaves:
        raise InputError(
            f"data holds {wrong[0] if wrong else 'nothing'}, expected tensors: give a pair "
            "(inputs, targets) of tensors, a map-style Dataset, or a DataLoader"
        )
    _refuse_layouts(leaves)
    scalars = sum(leaf.ndim == 0 for leaf in leaves)
    if scalars:
        raise InputError(
            "data holds a tensor without dimensions, expected one example a row: give tensors "
            "of shape (examples, ...)"
        )
    lengths = list(dict.fromkeys(len(leaf) for leaf in leaves))
    if len(lengths) > 1:
        some = [*map(str, lengths[:MOST_NAMED]), *["others"][: len(lengths) - MOST_NAMED]]
        raise InputError(
            f"data holds tensors of {' and '.join(some)} examples, expected equal "
            "numbers: inputs and targets must have the same first dimension"
        )
    if lengths[0] == 0:
        raise InputError("data is empty (0 examples): give at least one example")


def _refuse_layouts(leaves: Sequence[Tensor]) -> None:
    """Examples are taken by number, which sparse and nested tensors do not allow."""
    for leaf in leaves:
        if leaf.is_nested:
            raise InputError(
                "data holds a nested tensor, expected one shape for all examples: pad them, "
                "torch.nested.to_padded_tensor(data, 0.0), and mask the padding"
            )
        if leaf.layout is not torch.strided:
            kind = str(leaf.layout).removeprefix("torch.")
            raise InputError(
                f"data holds a tensor of layout {kind}, expected a dense one: give data.to_dense()"
            )


def _filled(first: Any, dataset: Any, collate: Collate) -> Any:
    """Read on after the first examples, into tensors with room for all."""
    from tqdm import tqdm

    size = len(dataset)
    _check_room(first, size)
    whole = tree_map(lambda leaf: leaf.new_empty((size, *leaf.shape[1:])), first)
    starts = tqdm(
        range(0, size, CHUNK), desc="reading data", unit_scale=CHUNK, unit=" examples",
        leave=False, delay=SECONDS_WITHOUT_BAR, disable=not sys.stderr.isatty(),
    )  # fmt: skip
    for start in starts:
        index = range(start, min(start + CHUNK, size))
        part = _stacked(dataset, collate, index) if start else first
        pairs = _matched(whole, part)
        if any(into.shape[1:] != leaf.shape[1:] for into, leaf in pairs):
            if collate is default_collate:
                _refuse_shapes(pairs)
            return _padded(dataset, collate)
        for into, leaf in pairs:
            into[start : index.stop] = leaf
    return whole


def _padded(dataset: Any, collate: Collate) -> Any:
    """Put all examples together at once, and hold each against the same in a smaller batch."""
    size = len(dataset)
    starts = range(0, size, CHUNK)
    chunks = [range(start, min(start + CHUNK, size)) for start in starts]
    parts = [_stacked(dataset, collate, index) for index in chunks]
    widest = tree_map(lambda *leaves: max(leaves, key=lambda leaf: leaf[0].numel()), *parts)
    _check_room(widest, size)
    whole = _stacked(dataset, collate, range(size))
    for index, part in zip(chunks, parts, strict=True):
        if not _same(whole, part, index):
            raise InputError(COMPANY)
    return whole


def _agree(whole: Tensor, part: Tensor) -> bool:
    """Whether rows of the whole are those of a smaller batch, but for one constant around them."""
    # nan equals nothing, and is not to be taken for a change.
    whole, part = whole.nan_to_num(), part.nan_to_num()
    if whole.shape == part.shape:
        return torch.equal(whole, part)
    sides = list(zip(whole.shape[1:], part.shape[1:], strict=True))
    for corner in ([slice(k) for _, k in sides], [slice(n - k, n) for n, k in sides]):
        place = (slice(None), *corner)
        if torch.equal(whole[place], part):
            around = torch.ones_like(whole, dtype=torch.bool)
            around[place] = False
            if len(whole[around].unique()) == 1:
                return True
    return False


def _matched(whole: Any, part: Any) -> list[tuple[Tensor, Tensor]]:
    """Pair the tensors of a part with those of the whole; examples must be of one kind."""
    (into, form), (leaves, other) = tree_flatten(whole), tree_flatten(part)
    if form != other:
        raise InputError(
            "the examples of data are of different kinds, expected the same nest of tensors for "
            "each: let every example be a pair (input, target)"
        )
    pairs = list(zip(into, leaves, strict=True))
    if any(one.ndim != two.ndim or one.dtype != two.dtype for one, two in pairs):
        _refuse_shapes(pairs)
    return pairs


def _refuse_shapes(pairs: list[tuple[Tensor, Tensor]]) -> NoReturn:
    one, two = next((a, b) for a, b in pairs if a.shape[1:] != b.shape[1:] or a.dtype != b.dtype)
    kinds = [f"{tuple(leaf.shape[1:])} of {leaf.dtype}" for leaf in (one, two)]
    raise InputError(
        f"the examples of data do not stack into tensors of one shape ({kinds[0]} and "
        f"{kinds[1]}): pad or resize them to one, or give tensors"
    )


def _read_again(whole: Any, dataset: Any, collate: Collate, index: Sequence[int]) -> None:
    for start in range(0, len(index), CHUNK):
        places = index[start : start + CHUNK]
        if _same(whole, _stacked(dataset, collate, places), places):
            continue
        everyone = range(min(CHUNK, len(dataset)))
        if collate is not default_collate and _same(
            _stacked(dataset, collate, everyone), _stacked(dataset, collate, everyone), everyone
        ):
            raise InputError(COMPANY)
        raise InputError(
            "data gives other values when the same examples are read twice, as shuffling "
            "or random augmentation does: give the data set without augmentation, with "
            "the transform used for evaluation"
        )


def _same(whole: Any, part: Any, places: Sequence[int]) -> bool:
    there = torch.tensor(list(places))
    return all(_agree(first[there], second) for first, second in _matched(whole, part))


def _stacked(dataset: Any, collate: Collate, index: Sequence[int]) -> Any:
    items = [_item(dataset, k) for k in index]
    pictures = [x for x in _leaves(items[0]) if type(x).__module__.partition(".")[0] == "PIL"]
    if pictures:
        raise InputError(
            f"data gives PIL images ({type(pictures[0]).__name__} of {pictures[0].size}), expected "
            "tensors: give the data set a transform, such as torchvision.transforms.ToTensor()"
        )
    try:
        found = collate(items)
    except InputError:
        raise
    except Exception as error:  # whatever a user's collate raises
        if collate is not default_collate:
            raise InputError(
                f"the collate_fn of the DataLoader failed on {len(items)} examples, "
                f"{type(error).__name__}: {_line(error)}; expected it to return tensors with one "
                "row per example"
            ) from error
        raise InputError(
            f"the examples of data do not stack into tensors of one shape "
            f"({_line(error)}): pad or resize them to one, or give tensors"
        ) from error
    found = tuple(found) if isinstance(found, list) else found
    if isinstance(found, Mapping) and not isinstance(found, dict):
        found = dict(found)  # as tokenizers give
    check(found)
    rows = len(_leaves(found)[0])
    if rows != len(items):
        raise InputError(
            f"the collate_fn of the DataLoader made {rows} rows of {len(items)} examples, expected "
            "one row per example in the first dimension: use batch_first=True, or give a data set "
            "whose items are the rows"
        )
    return found


def _item(dataset: Any, index: int) -> Any:
    try:
        return dataset[index]
    except Exception as error:
        raise InputError(
            f"example {index} of data ({type(dataset).__name__}) cannot be read, "
            f"{type(error).__name__}: {_line(error)}; expected dataset[{index}] to be a pair "
            "(input, target)"
        ) from error


def _check_room(first: Any, size: int) -> None:
    """Refuse data that do not fit into memory before all of them are read."""
    leaves = _leaves(first)
    each = sum(leaf[0].numel() * leaf.element_size() for leaf in leaves)
    room = SHARE_OF_FREE * free_memory(torch.device("cpu"))
    if each * size > room:
        most = max(int(room / each) // 2, 1)
        raise InputError(
            f"data holds {size:,} examples of {in_words(each)}, {in_words(each * size)} in all, "
            f"which samplers keep in memory, and {in_words(room)} may be used: give examples "
            f"drawn at random, torch.utils.data.Subset(dataset, torch.randperm({size})"
            f"[:{min(most, 10_000)}].tolist())"
        )


def _state() -> tuple[Any, ...]:
    """Where the generators of the process stand."""
    _, keys, place, *_ = np.random.get_state()
    return random.getstate(), bytes(keys), place, bytes(torch.get_rng_state().numpy())  # type: ignore


def _leaves(data: Any) -> Sequence[Any]:
    return tree_flatten(data)[0]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
