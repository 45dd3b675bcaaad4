"""Every kind of data a user holds, turned into tensors that stay on the device."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from llc.errors import InputError

__all__ = ["materialise", "number_of_examples", "padded", "repeated", "take"]

CHUNK = 1024
REREAD = 32
LOOK = 4096
MOST_NUMBERS = 2**24
STANDS_OUT = 3
LEAST_ENDING = 0.1


def materialise(data: Any) -> Any:
    """Turn data into tensors whose first dimension counts examples.

    Args:
        data: a tensor, a pair (any tuple, list or dict) of tensors, a map-style
            ``Dataset``, or a ``DataLoader``, of which the data set and the ``collate_fn``
            are used; its order and batch size are not, since samplers draw their own batches.

    Returns:
        The same structure with tensors of equal first dimension.

    Raises:
        InputError: the data are empty, of unequal lengths, of another kind, or change
            when read twice.
    """
    collate: Callable[[list[Any]], Any] = default_collate
    if isinstance(data, DataLoader):
        collate, data = data.collate_fn, data.dataset
    if isinstance(data, TensorDataset):
        data = tuple(data.tensors)
    if isinstance(data, IterableDataset) or (
        isinstance(data, Dataset) and not hasattr(data, "__len__")
    ):
        raise InputError(
            f"data is a {type(data).__name__}, which can only be read in order, but samplers "
            "draw examples at random: give a map-style Dataset or a pair of tensors instead"
        )
    if isinstance(data, Dataset):
        data = _read_dataset(data, collate)
    _check(data)
    return data


def number_of_examples(data: Any) -> int:
    """Return n, the number of examples of materialised data."""
    return len(tree_flatten(data)[0][0])


def take(data: Any, index: Tensor | slice) -> Any:
    """Pick examples: an index of shape ``(..., batch)`` gives leaves ``(..., batch, *shape)``."""
    return tree_map(lambda leaf: leaf[index], data)


def repeated(data: Any) -> float:
    """Share of examples equal to the most common one, where that one stands out; else 0.

    It stands out where it is at least three times as common as the next: discrete data repeat
    themselves, but under Zipf's law, uneven as that is, only twice as often. Large data are looked
    at in 4,096 places spread over them, fewer where examples are large.
    """
    size = number_of_examples(data)
    width = sum(leaf[0].numel() for leaf in _leaves(data))
    count = min(size, LOOK, max(2, MOST_NUMBERS // max(width, 1)))
    index = torch.arange(count) * size // count
    leaves = [leaf.detach()[index.to(leaf.device)].cpu() for leaf in _leaves(data)]
    rows = [_numbers(leaf).reshape(len(index), -1).numpy() for leaf in leaves]
    counts = Counter(b"".join(part[i].tobytes() for part in rows) for i in range(len(index)))
    ranked = counts.most_common(2)
    if len(ranked) < 2 or ranked[0][1] < STANDS_OUT * ranked[1][1]:
        return 0.0
    return ranked[0][1] / len(index)


def padded(tokens: Tensor) -> float:
    """Share of positions that look like padding of token sequences ``(examples, positions)``.

    A token is padding if it stands only in an unbroken run at the sequences' ends, or only at
    their beginnings. The first of each run does not count: end and start markers are part of the
    text, and a token that ends fewer than a tenth of the sequences cannot fill a tenth of the
    positions. 0 for anything but whole numbers in two dimensions.
    """
    if tokens.ndim != 2 or tokens.is_floating_point() or tokens.shape[1] < 2:
        return 0.0
    step = -(-len(tokens) // LOOK)
    return max(_run_at_the_end(side) for side in (tokens[::step], tokens[::step].flip(1)))


def _run_at_the_end(tokens: Tensor) -> float:
    most = 0.0
    last, count = tokens[:, -1].unique(return_counts=True)
    for token in last[count >= LEAST_ENDING * len(tokens)]:
        same = tokens == token
        run = same.flip(1).cumprod(1).sum(1)
        if bool((run == same.sum(1)).all()):
            most = max(most, ((run - 1).clamp(min=0).sum() / tokens.numel()).item())
    return most


def _numbers(leaf: Tensor) -> Tensor:
    # NumPy has no bfloat16, and doubles keep every other kind of number apart.
    return torch.view_as_real(leaf).double() if leaf.is_complex() else leaf.double()


def _read_dataset(dataset: Any, collate: Callable[[list[Any]], Any]) -> Any:
    size = len(dataset)
    if size == 0:
        raise InputError("data is an empty data set: give at least one example")
    chunks = []
    for start in range(0, size, CHUNK):
        chunk = _stack(collate, [dataset[i] for i in range(start, min(start + CHUNK, size))])
        chunks.append(tuple(chunk) if isinstance(chunk, list) else chunk)
        _check(chunks[-1])
    again = _stack(collate, [dataset[i] for i in range(min(REREAD, size))])
    for first, second in zip(_leaves(take(chunks[0], slice(REREAD))), _leaves(again), strict=True):
        if not torch.equal(first, second):
            raise InputError(
                "data gives other values when the same examples are read twice, as shuffling or "
                "random augmentation does: give the data set without augmentation"
            )
    return _stack(lambda parts: tree_map(lambda *leaves: torch.cat(leaves), *parts), chunks)


def _stack(collate: Callable[[list[Any]], Any], parts: list[Any]) -> Any:
    try:
        return collate(parts)
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"the examples of data do not stack into tensors of one shape "
            f"({' '.join(str(error).split())[:200]}): pad them to one length, or give tensors"
        ) from error


def _leaves(data: Any) -> Sequence[Any]:
    return tree_flatten(data)[0]


def _check(data: Any) -> None:
    leaves = _leaves(data)
    wrong = [type(leaf).__name__ for leaf in leaves if not isinstance(leaf, Tensor)]
    if wrong or not leaves:
        raise InputError(
            f"data holds {wrong[0] if wrong else 'nothing'}, expected tensors: give a pair "
            "(inputs, targets) of tensors, a map-style Dataset, or a DataLoader"
        )
    scalars = sum(leaf.ndim == 0 for leaf in leaves)
    if scalars:
        raise InputError(
            "data holds a tensor without dimensions, expected one example a row: give tensors "
            "of shape (examples, ...)"
        )
    lengths = [len(leaf) for leaf in leaves]
    if len(set(lengths)) > 1:
        raise InputError(
            f"data holds tensors of {' and '.join(map(str, lengths))} examples, expected equal "
            "numbers: inputs and targets must have the same first dimension"
        )
    if lengths[0] == 0:
        raise InputError("data is empty (0 examples): give at least one example")
