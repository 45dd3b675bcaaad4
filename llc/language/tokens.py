"""Token data: text, JSON lines, arrays of ids and Hugging Face datasets as blocks of one length."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from llc.archives import read_array, read_arrays
from llc.errors import InputError, brief

__all__ = ["IGNORED", "Tokens", "masked", "pack", "pad", "read"]

IGNORED = -100
"""The label of a token that is not to be predicted."""
COLUMNS = ("input_ids", "tokens", "ids")
Encode = Callable[[str], Sequence[int]]


class Tokens(NamedTuple):
    """Sequences of tokens with their labels.

    Attributes:
        ids: tokens, whole numbers of shape ``(sequences, length)``.
        labels: the same where a token is to be predicted, -100 where not, ``(sequences, length)``.
    """

    ids: Tensor
    labels: Tensor


def read(
    source: Any,
    *,
    tokenizer: Any = None,
    length: int | None = None,
    field: str = "text",
    padded: bool = False,
    limit: int | None = None,
) -> Tokens:
    """Turn token data of any usual kind into sequences of one length.

    Args:
        source: a ``.txt`` file (one document), ``.jsonl`` (one a line), ``.npy`` or ``.npz`` (ids,
            with ``attention_mask`` and ``labels`` where there are any), a folder that
            ``save_to_disk`` of Hugging Face datasets wrote, such a dataset itself, an array or
            tensor of ids, or a list of documents, each a text or a list of ids.
        tokenizer: of Hugging Face, or a function from text to ids; needed for text alone.
        length: tokens a sequence. Documents are joined, an end-of-text token between them where
            the tokenizer has one, and cut into blocks; 128 unless given. Rows of an array stay as
            they are unless given, else they are cut into blocks.
        field: which entry of JSON lines, or column, holds text, or ids.
        padded: instead, give each document one sequence of its own: cut at ``length``, or filled
            up behind its end with tokens that have no label.
        limit: most sequences to keep; the first ones.

    Returns:
        Ids and labels.

    Raises:
        InputError: the source cannot be read, holds text without a tokenizer, or fewer tokens
            than one sequence.
    """
    if (length is not None and length < 2) or (limit is not None and limit < 1):
        raise InputError(
            f"length is {length} and limit {limit}, expected at least 2 tokens a sequence and 1 "
            "sequence"
        )
    if isinstance(source, str | Path):
        source = _open(Path(source), field)
    if isinstance(source, Tokens):
        return _cut(source, length, limit)
    rows = _rows(source)
    if rows is not None:
        return _cut(rows, length, limit)
    documents = _documents(source, field, _encoder(tokenizer))
    if padded:
        return pad(islice(documents, limit), length)
    return pack(documents, length or 128, separator=_end(tokenizer), limit=limit)


def pack(
    documents: Iterable[Sequence[int]],
    length: int,
    *,
    separator: int | None = None,
    limit: int | None = None,
) -> Tokens:
    """Join documents and cut what comes out into blocks; the rest at the end is left out.

    Raises:
        InputError: all of it is shorter than one block.
    """
    blocks, rest = [], np.empty(0, np.int64)
    for document in documents:
        parts = [rest, np.asarray(document, np.int64)]
        if separator is not None:
            parts.append(np.asarray([separator], np.int64))
        rest = np.concatenate(parts)
        whole = len(rest) // length * length
        blocks.append(rest[:whole].reshape(-1, length))
        rest = rest[whole:]
        if limit is not None and sum(map(len, blocks)) >= limit:
            break
    ids = np.concatenate(blocks)[:limit] if blocks else np.empty((0, length), np.int64)
    if not len(ids):
        raise InputError(
            f"the data hold {len(rest)} tokens, expected at least one sequence of {length}: give "
            "more of them, or a smaller length"
        )
    found = torch.from_numpy(ids)
    return Tokens(found, found.clone())


def pad(documents: Iterable[Sequence[int]], length: int | None = None) -> Tokens:
    """Give each document a row, cut at ``length``, filled up with tokens 0 labelled -100.

    Raises:
        InputError: there is no document of two tokens or more, or one is empty.
    """
    rows = [torch.as_tensor(list(document), dtype=torch.long) for document in documents]
    if not rows or min(map(len, rows)) == 0 or max(map(len, rows)) < 2:
        raise InputError("the data hold an empty document, or no document of two tokens or more")
    width = min(length or max(map(len, rows)), max(map(len, rows)))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full_like(ids, IGNORED)
    for i, row in enumerate(rows):
        kept = row[:width]
        ids[i, : len(kept)] = labels[i, : len(kept)] = kept
    return Tokens(ids, labels)


def _open(path: Path, field: str) -> Any:
    """Open a file or folder: documents, a mapping of columns, or an array."""
    if path.is_dir():
        return _dataset(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist, expected .txt, .jsonl, .npy, .npz, or a folder")
    if path.suffix == ".txt":
        return [path.read_text(encoding="utf-8")]
    if path.suffix in (".jsonl", ".ndjson"):
        return list(_lines(path, field))
    if path.suffix in (".npy", ".npz"):
        try:
            return read_array(path) if path.suffix == ".npy" else read_arrays(path)
        except (ValueError, OSError) as error:
            raise InputError(f"{path.name} is no array of numbers: {brief(error)}") from error
    raise InputError(
        f"{path.name} ends in {path.suffix!r}, expected .txt, .jsonl, .npy, .npz, or a folder of "
        "Hugging Face datasets"
    )


def _dataset(path: Path) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"{path} is a folder, and reading one needs datasets: pip install datasets"
        ) from error
    try:
        found = datasets.load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is no data set that save_to_disk wrote: {brief(error)}"
        ) from error
    if isinstance(found, Mapping):
        raise InputError(
            f"{path} holds several data sets ({', '.join(map(str, found))}), expected one: give "
            f"{path / str(next(iter(found)))}"
        )
    return found


def _lines(path: Path, field: str) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                found = json.loads(line)
            except ValueError as error:
                raise InputError(
                    f"line {number} of {path.name} is no JSON ({brief(error)}), expected one "
                    "object a line"
                ) from error
            if isinstance(found, dict) and field not in found:
                raise InputError(
                    f"line {number} of {path.name} has no entry {field!r}, it has "
                    f"{', '.join(found)}: name the entry that holds the text as field"
                )
            yield found[field] if isinstance(found, dict) else found


def _rows(source: Any) -> Tokens | None:
    """Rows that come with their ids in a rectangle; None where documents have to be joined."""
    columns = getattr(source, "column_names", None)
    if isinstance(source, Mapping):
        columns = list(source)
        if not set(COLUMNS) & set(columns) and len(columns) == 1:
            return _rows(source[columns[0]])
    if columns is not None:
        name = next((c for c in COLUMNS if c in columns), None)
        if name is None:
            return None
        ids = _rectangle(source[name])
        if ids is None or ids.ndim == 1:
            return None if ids is None else Tokens(ids, ids.clone())
        labels = _rectangle(source["labels"]) if "labels" in columns else ids.clone()
        mask = _rectangle(source["attention_mask"]) if "attention_mask" in columns else None
        return masked(ids, labels, mask)
    ids = _rectangle(source)
    return None if ids is None else Tokens(ids, ids.clone())


def masked(ids: Tensor, labels: Tensor | None, mask: Tensor | None) -> Tokens:
    """Put labels and an attention mask together; sequences padded on the left move to the left.

    Attention of a causal model never looks ahead, so that padding behind a text changes nothing of
    it, and the mask itself is not needed once the labels leave padding out. Padding before a text
    would be looked at: such rows are rolled until it stands behind.

    Args:
        ids: ``(sequences, length)``.
        labels: of that shape, -100 where nothing is to be predicted; the ids unless given.
        mask: of that shape, 0 at padding.

    Raises:
        InputError: shapes differ, or a mask has holes.
    """
    labels = ids.clone() if labels is None else labels.clone()
    if labels.shape != ids.shape or (mask is not None and mask.shape != ids.shape):
        other = labels if labels.shape != ids.shape or mask is None else mask
        raise InputError(
            f"ids are {tuple(ids.shape)} and labels or mask {tuple(other.shape)}, expected one "
            "label and one mask entry a token"
        )
    if mask is None or bool(mask.bool().all()):
        return Tokens(ids, labels)
    mask = mask.bool()
    start, count = mask.int().argmax(1, keepdim=True), mask.sum(1, keepdim=True)
    order = torch.arange(ids.shape[1], device=ids.device)
    if not torch.equal(mask, (order >= start) & (order < start + count)):
        raise InputError(
            "attention_mask has holes, expected one unbroken run of ones a sequence, as padding at "
            "its beginning or end leaves"
        )
    source = (order + start) % ids.shape[1]
    kept = mask.gather(1, source)
    return Tokens(ids.gather(1, source), labels.gather(1, source).masked_fill(~kept, IGNORED))


def _rectangle(source: Any) -> Tensor | None:
    """Whole numbers in one or two dimensions, or None."""
    if isinstance(source, Tensor):
        found = source
    elif isinstance(source, np.ndarray):
        if source.dtype.kind not in "iub":
            raise InputError(f"the data are {source.dtype}, expected token ids, whole numbers")
        found = torch.from_numpy(source.astype(np.int64))
    else:
        source = list(source)
        if not source or any(isinstance(row, str) for row in source):
            return None
        try:
            found = torch.as_tensor(source)
        except (ValueError, TypeError):
            return None
    if found.is_floating_point() or found.is_complex() or found.ndim not in (1, 2):
        raise InputError(
            f"the data are {found.dtype} in {found.ndim} dimensions, expected token ids, whole "
            "numbers of shape (sequences, length) or one long run of them"
        )
    return found.long()


def _cut(tokens: Tokens, length: int | None, limit: int | None) -> Tokens:
    """Cut rows into shorter ones of equal length; a single run into blocks."""
    ids, labels = tokens
    if ids.ndim == 1:
        return pack([ids.tolist()], length or 128, limit=limit)
    if length is not None and length != ids.shape[1]:
        if ids.shape[1] % length:
            raise InputError(
                f"length is {length} and rows hold {ids.shape[1]} tokens, expected a length that "
                "divides it, or none, to take rows as they are"
            )
        ids, labels = ids.reshape(-1, length), labels.reshape(-1, length)
        said = (labels[:, 1:] != IGNORED).any(1)
        ids, labels = ids[said], labels[said]
    return Tokens(ids[:limit], labels[:limit])


def _documents(source: Any, field: str, encode: Encode | None) -> Iterator[Sequence[int]]:
    columns = getattr(source, "column_names", None)
    if columns is not None:
        name = next((c for c in (field, *COLUMNS) if c in columns), None)
        if name is None:
            raise InputError(
                f"the data set has columns {', '.join(columns)}, none of them {field!r}: name the "
                "one that holds text or ids as field"
            )
        source = source[name]
    for document in source:
        if isinstance(document, str):
            if encode is None:
                raise InputError(
                    "the data are text, which needs a tokenizer: give one, or ids instead"
                )
            yield encode(document)
        else:
            yield document


def _encoder(tokenizer: Any) -> Encode | None:
    encode = getattr(tokenizer, "encode", tokenizer)
    if getattr(tokenizer, "is_fast", None) is None:
        return encode
    # Markers at a text's ends are put there by who joins or pads documents.
    return lambda text: encode(text, add_special_tokens=False, verbose=False)


def _end(tokenizer: Any) -> int | None:
    return getattr(tokenizer, "eos_token_id", None)
