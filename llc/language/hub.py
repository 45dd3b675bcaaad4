"""Causal language models of the Hugging Face hub or of a folder, one revision at a time.

``hf:NAME@REVISION`` names a model of the hub and ``hf:FOLDER`` one that ``save_pretrained`` wrote;
``hf:FOLDER@NAME`` is the folder NAME inside. What the local cache holds is read from there, and
the hub is asked only for the rest.
"""

import itertools
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llc.errors import InputError
from llc.files import read_json

__all__ = [
    "PREFIX",
    "WHOLE",
    "expand",
    "is_named",
    "is_saved",
    "load_model",
    "load_tokenizer",
    "load_weights",
    "split",
]

PREFIX = "hf:"
WHOLE = ("model.safetensors", "model.safetensors.index.json")
"""What ``save_pretrained`` calls a model's weights."""
TRUST = {"trust_remote_code": False}
"""Neither a folder nor the hub brings code to be run; without this, transformers would ask."""
LOG = logging.getLogger("llc")


def is_named(place: object) -> bool:
    """Whether something given for a file names a model of Hugging Face instead."""
    return isinstance(place, str | Path) and str(place).startswith(PREFIX)


def is_saved(folder: Path) -> bool:
    """Whether a folder is a causal language model that ``save_pretrained`` wrote."""
    if not any((folder / name).is_file() for name in WHOLE):
        return False
    try:
        found = read_json(folder / "config.json")["architectures"][0]
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return str(found).endswith(("ForCausalLM", "LMHeadModel"))


def split(place: str) -> tuple[str, str | None]:
    """Take ``hf:NAME@REVISION`` apart; the revision is None where there is none."""
    place = place.removeprefix(PREFIX)
    if place and Path(place).is_dir():
        return place, None
    name, at, revision = place.rpartition("@") if "@" in place else (place, "", "")
    if not name or (at and not revision):
        raise InputError(
            f"{place!r} names no model, expected hf:NAME, hf:NAME@REVISION or hf:FOLDER"
        )
    return name, revision or None


def expand(place: str) -> list[str]:
    """Write a series out: ``hf:NAME@step{0,512,1000..5000..1000}`` is seven names.

    Braces hold numbers or words between commas; ``a..b`` and ``a..b..stride`` stand for whole
    numbers from a to b, b included, as in a shell.

    Raises:
        InputError: a brace without its other, or nothing between two commas.
    """
    if Path(place.removeprefix(PREFIX)).is_dir():
        return [place]
    parts = re.split(r"\{([^{}]*)\}", place)
    if any("{" in part or "}" in part for part in parts):
        raise InputError(f"{place!r} has a brace too many, expected hf:NAME@step{{0,1,2}}")
    choices = [[p] if i % 2 == 0 else _choices(p, place) for i, p in enumerate(parts)]
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def _choices(text: str, place: str) -> list[str]:
    found: list[str] = []
    for word in (w.strip() for w in text.split(",")):
        numbers = re.fullmatch(r"(\d+)\.\.(\d+)(?:\.\.(\d+))?", word)
        if numbers:
            low, high, stride = int(numbers[1]), int(numbers[2]), int(numbers[3] or 1)
            found += map(str, range(low, high + 1, max(stride, 1)))
        else:
            found.append(word)
    if not found or "" in found:
        raise InputError(
            f"{place!r} has an empty place between its braces, expected hf:NAME@step{{0,1,2}}"
        )
    return found


def load_model(
    name: str, revision: str | None = None, *, dtype: torch.dtype | str = torch.float32
) -> nn.Module:
    """Build a causal language model with its weights, in eval mode.

    Args:
        name: of the hub, or a folder; with or without ``hf:``.
        revision: branch, tag or commit; of a folder, the folder inside it.
        dtype: of the weights; ``"auto"`` keeps the checkpoint's own.

    Raises:
        InputError: transformers is not installed, there is no such model, or its files lack
            weights, which transformers would fill with random numbers.
    """
    transformers = _transformers()
    name = name.removeprefix(PREFIX)
    place, revision = _place(name, revision)
    given = {"revision": revision, "dtype": dtype, "output_loading_info": True, **TRUST}
    with _quiet(transformers), torch.random.fork_rng(devices=[]):
        model, found = _from_cache_or_hub(
            transformers.AutoModelForCausalLM.from_pretrained, place, given, name, revision
        )
    missing = sorted(map(str, found["missing_keys"]))
    wrong = sorted(str(each) for each in found.get("mismatched_keys", ()))
    if missing or wrong:
        raise InputError(
            f"the files of {_said(name, revision)} lack {len(missing) + len(wrong)} weights of "
            f"{type(model).__name__} ({(missing + wrong)[0]} first), expected all of them: give a "
            "checkpoint of a causal language model"
        )
    surplus = sorted(map(str, found["unexpected_keys"]))
    if surplus:
        LOG.info(
            "%s: %d tensors are not part of %s (%s first), and left out",
            _said(name, revision), len(surplus), type(model).__name__, surplus[0],
        )  # fmt: skip
    return model.eval()


def load_weights(place: str) -> dict[str, Tensor]:
    """Read the weights of ``hf:NAME@REVISION``, as transformers names them.

    Raises:
        InputError: as `load_model`; or it names a series.
    """
    each = expand(place)
    if len(each) > 1:
        raise InputError(f"{place} names {len(each)} checkpoints, expected one: give {each[0]}")
    return dict(load_model(*split(place)).state_dict())


def load_tokenizer(name: str, revision: str | None = None) -> Any:
    """Load a model's tokenizer.

    Raises:
        InputError: transformers is not installed, or there is no tokenizer.
    """
    transformers = _transformers()
    name = name.removeprefix(PREFIX)
    place, revision = _place(name, revision)
    with _quiet(transformers):
        return _from_cache_or_hub(
            transformers.AutoTokenizer.from_pretrained,
            place,
            {"revision": revision, **TRUST},
            name,
            revision,
        )


def _place(name: str, revision: str | None) -> tuple[str, str | None]:
    """A folder has no revisions but folders."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if name.startswith((".", "/", "~")):
            raise InputError(f"{name} is no folder, expected one that save_pretrained wrote")
        return name, revision
    if revision is not None:
        folder = folder / revision
        if not folder.is_dir():
            raise InputError(f"{name} holds no folder {revision}, expected one for each revision")
    elif not (folder / "config.json").is_file():
        inside = [p.name for p in folder.iterdir() if is_saved(p)]
        if inside:
            raise InputError(
                f"{name} is no model but a folder of {len(inside)}, expected one of them: give "
                f"{PREFIX}{name}@{min(inside, key=_numbered)}"
            )
    return str(folder), None


def _numbered(name: str) -> tuple[int, str]:
    """Order step8 before step16."""
    return int((re.findall(r"\d+", name) or ["0"])[-1]), name


def _from_cache_or_hub(
    load: Any, place: str, given: dict[str, Any], name: str, revision: str | None
) -> Any:
    given = {key: value for key, value in given.items() if value is not None}
    try:
        return load(place, local_files_only=True, **given)
    except Exception as error:  # of many kinds, by version and by what is missing
        if Path(place).is_dir():
            raise _not_found(name, revision, error) from error
    try:
        return load(place, **given)
    except Exception as error:
        raise _not_found(name, revision, error) from error


def _not_found(name: str, revision: str | None, error: Exception) -> InputError:
    said = " ".join(str(error).split())[:200]
    return InputError(
        f"{_said(name, revision)} cannot be loaded as a causal language model, from a folder, the "
        f"local cache or the hub: {type(error).__name__}: {said}"
    )


def _said(name: str, revision: str | None) -> str:
    return name if revision is None else f"{name}@{revision}"


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            "Hugging Face models need transformers, which is not installed: "
            "pip install transformers"
        ) from error
    return transformers


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep transformers from drawing bars and logging what is checked here; then as it was."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
