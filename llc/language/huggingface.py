"""Causal language models as tasks: next-token cross-entropy over tokens of any kind."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llc.errors import InputError
from llc.language import hub, tokens
from llc.private import private_copy
from llc.task import Task

__all__ = ["WEIGHTINGS", "LanguageModel", "task"]

WEIGHTINGS = {"token": "cross_entropy", "sequence": "cross_entropy_by_example"}


class LanguageModel(nn.Module):
    """A causal language model whose outputs are logits ``(batch, vocabulary, positions)``.

    Args:
        module: anything that maps ids ``(batch, positions)`` to logits ``(batch, positions,
            vocabulary)``, or to an object or tuple that holds them, as models of transformers and
            TransformerLens do. Its weights keep their names, for checkpoints' sake.

    Attributes:
        classes_in_dimension_1: says so to the loss where positions are as many as the vocabulary.
    """

    classes_in_dimension_1 = True

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        # A cache of keys and values is for generating; building one costs memory.
        config = getattr(module, "config", None)
        self.given = {"use_cache": False} if hasattr(config, "use_cache") else {}

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits of the next token at every position."""
        found = self.module(ids, **self.given)
        if not isinstance(found, Tensor):
            found = found.logits if hasattr(found, "logits") else found[0]
        return found.transpose(1, 2)


def task(
    model: str | Path | nn.Module,
    data: Any,
    *,
    revision: str | None = None,
    weighting: str = "token",
    labels: Tensor | None = None,
    attention_mask: Tensor | None = None,
    tokenizer: Any = None,
    length: int | None = None,
    field: str = "text",
    padded: bool = False,
    limit: int | None = None,
    dtype: torch.dtype | str = torch.float32,
    name: str | None = None,
) -> Task:
    """Make a task of a causal language model and tokens.

    The loss of an example, a sequence x, is the cross-entropy of its next tokens,

        ℓ(x) = Σ_t −ln p(x_{t+1} | x_1…x_t) / c,  over t with a label at t + 1;

    c is the average number of labels a sequence under ``weighting="token"``, so that the mean over
    sequences is the mean over all labelled tokens, and the sequence's own number of labels under
    ``"sequence"``, so that short and long sequences weigh the same. n counts sequences.

    Args:
        model: a name of the hub or a folder, with or without ``hf:`` and ``@REVISION``; or a
            module that maps ids to logits, from transformers, TransformerLens or one's own. Half
            precision is raised to float32 in a copy: a step of a sampler is far below the rounding
            of bfloat16. ``autocast`` computes in bfloat16 all the same.
        data: anything that `llc.language.tokens.read` takes.
        revision: branch, tag or commit; of a folder, the folder inside it.
        weighting: ``"token"`` or ``"sequence"``.
        labels: shape of the ids, -100 where a token is not to be predicted; the ids themselves
            unless given.
        attention_mask: shape of the ids, 0 at padding, which then has no label.
        tokenizer: for text; the model's own unless given.
        length: see `llc.language.tokens.read`, as for ``field``, ``padded`` and ``limit``.
        field: entry or column of the text.
        padded: one document a sequence, instead of joined ones.
        limit: most sequences.
        dtype: of weights that are loaded; ``"auto"`` keeps the checkpoint's own.
        name: what figures call the task.

    Returns:
        The task, of a `LanguageModel`. Behavioural estimates measure the Kullback-Leibler
        divergence from the model's own next-token distribution.

    Raises:
        InputError: model or data cannot be used, or do not belong together.
    """
    if weighting not in WEIGHTINGS:
        raise InputError(f"weighting is {weighting!r}, expected 'token' or 'sequence'")
    if isinstance(model, nn.Module):
        module = _single(model)
        name = name or type(module).__name__
    else:
        place, at = hub.split(str(model))
        if at is not None and revision is not None:
            raise InputError(f"revision given twice, as {at} and as {revision}: give it once")
        revision = revision or at
        module = hub.load_model(place, revision, dtype=dtype)
        if tokenizer is None and _is_text(data, field):
            tokenizer = hub.load_tokenizer(place, revision)
        name = name or Path(place).name
    found = tokens.read(
        data, tokenizer=tokenizer, length=length, field=field, padded=padded, limit=limit
    )
    if labels is not None or attention_mask is not None:
        found = tokens.masked(found.ids, labels, attention_mask)
    _check(module, found)
    pair = (found.ids[:, :-1].contiguous(), found.labels[:, 1:].contiguous())
    return Task(LanguageModel(module), pair, WEIGHTINGS[weighting], name=name)


def _single(model: nn.Module) -> nn.Module:
    """The model, or a float32 copy where its weights are in half precision."""
    if isinstance(model, LanguageModel):
        model = model.module
    halves = any(p.is_floating_point() and p.dtype.itemsize < 4 for p in model.parameters())
    return private_copy(model).float() if halves else model


def _is_text(data: Any, field: str) -> bool:
    """Whether a tokenizer may be needed."""
    if isinstance(data, str | Path):
        return Path(data).suffix not in (".npy", ".npz")
    columns = getattr(data, "column_names", None)
    if columns is not None:
        return field in columns
    return not isinstance(data, Tensor) and not hasattr(data, "dtype")


def _check(module: nn.Module, found: tokens.Tokens) -> None:
    ids, labels = found
    if ids.ndim != 2 or ids.shape[1] < 2:
        raise InputError(
            f"the data have shape {tuple(ids.shape)}, expected token ids (sequences, length) of at "
            "least two tokens a sequence"
        )
    config = getattr(module, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        raise InputError(
            f"{type(module).__name__} encodes and decodes, expected a causal language model"
        )
    most = getattr(config, "vocab_size", None)
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or (isinstance(most, int) and high >= most):
        raise InputError(
            f"the data hold tokens {low} to {high}, expected 0 to {(most or 0) - 1}, the model's "
            "vocabulary: use the model's own tokenizer"
        )
    longest = getattr(config, "max_position_embeddings", None)
    if isinstance(longest, int) and ids.shape[1] - 1 > longest:
        raise InputError(
            f"sequences hold {ids.shape[1]} tokens, expected at most {longest + 1}, what the model "
            f"was built for: give length={longest}"
        )
    if not bool((labels[:, 1:] != tokens.IGNORED).any()):
        raise InputError("no token has a label: masks and labels leave nothing to predict")
