"""Components of published transformers by short names: ``l0h1``, ``l0 mlp``, ``embed``.

devinterp knows where more than eighty families of models keep them. Its slices of heads assume
heads of size hidden/heads, which is wrong for models that say otherwise (Qwen3, Gemma, Llama with
``head_dim``) and share keys among heads; here they are cut by the size the model has, and refused
where the tensors do not fit it.
"""

import importlib.util
import re
from typing import Any

import torch
from torch import Tensor, nn

from llc.errors import InputError
from llc.parts.words import Chosen

__all__ = ["component", "knows"]

HEAD = re.compile(r"l(\d+)\s*([hg])(\d+)$", re.IGNORECASE)
COMPONENT = re.compile(r"l\d+(\s+(attn|mlp))?$|embed$|unembed$", re.IGNORECASE)


def knows(model: nn.Module) -> bool:
    """Whether a model says of what family it is, and devinterp is there to be asked."""
    return _family(model) is not None and importlib.util.find_spec("devinterp") is not None


def component(model: nn.Module, word: str) -> Chosen | None:
    """Return the masks of a component, or None if the word is none.

    Args:
        model: of transformers, or a HookedTransformer.
        word: ``"l0"`` a layer; ``"l0 attn"``, ``"l0 mlp"``; ``"l0h1"`` a head with the keys and
            values it reads; ``"l0g1"`` the heads that share keys, with those; ``"embed"``;
            ``"unembed"``.

    Returns:
        Parameter → boolean mask, or None for the whole of it.

    Raises:
        InputError: a family nobody knows, a layer or head that is not there, nothing found, or
            heads whose tensors do not have the sizes that the model's configuration says.
    """
    head = HEAD.match(word)
    if head is None and COMPONENT.match(word) is None:
        return None
    from devinterp.slt import weight_restrictions

    try:
        if head is None:
            found = weight_restrictions.create_param_masks(model, " ".join(word.split()))
        else:
            spec = weight_restrictions._get_spec(model)
            layers = weight_restrictions._count_layers(dict(model.named_parameters()), spec)
            found = _heads(model, spec, layers, head, word)
    except ValueError as error:
        raise InputError(f"only={word!r}: {' '.join(str(error).split())}") from error
    if not found:
        raise InputError(
            f"only={word!r} finds no parameter of {type(model).__name__}, expected one that holds "
            "its own: tied weights are found under embed"
        )
    return dict(found)


def _family(model: nn.Module) -> str | None:
    config = getattr(model, "config", None)
    family = getattr(config, "model_type", None)
    if family is None and type(model).__name__ == "HookedTransformer":
        return "hooked_transformer"
    return family if isinstance(family, str) else None


def _heads(
    model: nn.Module, spec: dict[str, Any], layers: int, head: re.Match[str], word: str
) -> Chosen:
    """Masks of one head, or of a group of heads that share keys and values."""
    heads, shared, size = _sizes(model)
    layer, which, grouped = int(head[1]), int(head[3]), head[2].lower() == "g"
    most, what = (shared, "groups") if grouped else (heads, "heads")
    if layer >= layers or which >= most:
        raise InputError(
            f"only={word!r} is out of range: {type(model).__name__} has {layers} layers of {most} "
            f"{what}, counted from 0"
        )
    each = heads // shared
    group = which if grouped else which // each
    chosen = range(group * each, (group + 1) * each) if grouped else range(which, which + 1)
    prefix = f"{spec['layer_prefixes'][0]}.{layer}."
    found: Chosen = {}
    for name, parameter in model.named_parameters():
        short = name.removeprefix(prefix)
        if short == name or short not in spec.get("head_params", {}):
            continue
        cut = spec["head_params"][short]
        axis = cut["slice_dim"] if parameter.ndim > 1 else 0
        mask = _along(parameter, axis, cut.get("fused"), (heads, shared, size), chosen, group)
        if mask is None:
            raise InputError(
                f"only={word!r}: {name} has shape {tuple(parameter.shape)}, which {heads} heads of "
                f"size {size} ({shared} of keys and values) do not explain: name its rows, as "
                f"in {name}[0:{size}]"
            )
        line = [1] * parameter.ndim
        line[axis] = -1
        found[name] = mask.view(line).expand(parameter.shape).clone()
    return found


def _sizes(model: nn.Module) -> tuple[int, int, int]:
    """Return the numbers of heads and of heads of keys, and a head's size."""
    hooked = _family(model) == "hooked_transformer"
    config: Any = model.cfg if hooked else model.config
    if hooked:
        heads = config.n_heads
        return heads, getattr(config, "n_key_value_heads", None) or heads, config.d_head
    heads = config.num_attention_heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return heads, shared, size


def _along(
    parameter: Tensor,
    axis: int,
    fused: str | None,
    sizes: tuple[int, int, int],
    chosen: range,
    group: int,
) -> Tensor | None:
    """Mask along the axis that holds the heads, or None where sizes do not explain its length."""
    heads, shared, size = sizes
    length = parameter.shape[axis]
    mask = torch.zeros(length, dtype=torch.bool)
    rows = list(chosen)
    if fused == "interleaved":
        if shared != heads or length != 3 * heads * size:
            return None
        mask.view(heads, 3, size)[rows] = True
    elif fused == "concat":
        if length != (heads + 2 * shared) * size:
            return None
        query, rest = mask.split([heads * size, 2 * shared * size])
        query.view(heads, size)[rows] = True
        rest.view(2, shared, size)[:, group] = True
    elif length == heads * size:
        mask.view(heads, size)[rows] = True
    elif length == shared * size:
        mask.view(shared, size)[group] = True
    elif parameter.ndim > 1 and length == heads:
        mask[rows] = True
    elif parameter.ndim > 1 and length == shared:
        mask[group] = True
    else:
        return None
    return mask
