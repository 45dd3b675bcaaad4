"""The LLC of every part of a network at every checkpoint: one trace a part, at shared settings."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from llc.errors import InputError, some
from llc.execution import Execution
from llc.files import check_writable, read_json, write_whole
from llc.parts import as_strings, head_names, restrict
from llc.private import private_copy
from llc.progress import Bar
from llc.refined.result import FILE, Refined
from llc.settings import Settings
from llc.task import Task
from llc.trajectory import Trajectory, trace
from llc.trajectory.checks import check
from llc.trajectory.common import is_open, settle
from llc.trajectory.disk import writable
from llc.trajectory.given import given_items
from llc.trajectory.processes import compare_elsewhere
from llc.trajectory.sameness import Blueprint
from llc.trajectory.sources import Source
from llc.trajectory.watch import Progress

__all__ = ["default_parts", "refine"]

Only = str | Sequence[str] | Mapping[str, Tensor | None] | None


def refine(
    task: Task | Callable[[], Task],
    checkpoints: Source,
    parts: Mapping[str, Only] | Sequence[str] | None = None,
    *,
    out: str | Path | None = None,
    settings: Settings | None = None,
    execution: Execution | None = None,
    progress: Progress = None,
    workers: int = 1,
    step_from: str | None = None,
    entry: str | None = None,
    drop: str | Sequence[str] = (),
    **given: Any,
) -> Refined:
    """Estimate the weight-refined LLC of parts of a network over training.

    λ̂(V) = nβ(E[L(w)] − L(w*)) over p(w) ∝ exp(−nβL(w) − (γ/2)‖w − w*‖²) with only the weights V
    of a part moving and the rest at w* (Wang, Hoogland, van Wingerden, Furman & Murfet 2024, arXiv
    2410.02984). Dimension, prior-only null, virial and verdict are those of V. One nβ, γ and seed
    serve all parts and checkpoints; where γ is not given it is chosen for the whole network, as
    `llc.trace` does.

    Args:
        task: as for `llc.trace`.
        checkpoints: as for `llc.trace`, but of known length.
        parts: a name for each choice of weights, as ``only`` of `llc.estimate` takes it (None is
            the whole network); or a list of words, each a part; or None for the task's declared
            heads and each of the layers beside them.
        out: a folder: a run folder for each part in its ``parts/``, so that the same call goes on
            where one that was killed was; `Refined.load` reads it.
        settings: as for `llc.trace`.
        execution: as for `llc.trace`.
        progress: as for `llc.trace`; part after part.
        workers: as for `llc.trace`.
        step_from: as for `llc.trace`.
        entry: as for `llc.trace`.
        drop: as for `llc.trace`.
        **given: single settings, instead of ``settings``; ``freeze`` and ``n_eff`` as for
            `llc.trace`.

    Raises:
        InputError: a part that names nothing, settings with ``only``, a folder made with other
            parts, or what `llc.trace` refuses.
    """
    options = {name: given.pop(name) for name in ("freeze", "n_eff") if name in given}
    wanted = replace(settings or Settings(), **given)
    if wanted.only is not None:
        raise InputError(f"only={wanted.only} is given, expected parts: name it among them")
    check(1, wanted, False, workers, None, None, False, None, checkpoints)
    blueprint = Blueprint.of(task)
    built = blueprint()
    chosen = _named(built, parts)
    items: Any = list(given_items(built, checkpoints, entry, drop, step_from))
    if not items:
        raise InputError("checkpoints is empty: give at least one")
    folders = _folders(chosen)
    shared = None
    if out is not None:
        shared = _recorded(Path(out), chosen, wanted)
        with writable(Path(out)):
            check_writable(Path(out))
    if shared is None:
        if is_open(wanted, False):
            compare_elsewhere(blueprint, workers, execution)
        with Bar(built.label) if progress is True else nullcontext() as report:
            shared = settle(built, items, wanted, False, execution, report).settings
        if out is not None:
            _record(Path(out), built.label, chosen, folders, wanted, shared)
    # What follows each part's own curvature stays open; what is shared is not.
    fixed = replace(wanted, n_beta=shared.n_beta, gamma=shared.gamma, reasons=shared.reasons)
    found: dict[str, Trajectory] = {}
    for part, only in chosen.items():
        found[part] = trace(
            blueprint,
            items,
            out=None if out is None else Path(out) / folders[part],
            settings=replace(fixed, only=only),
            execution=execution,
            progress=progress,
            workers=workers,
            **options,
        )
    result = Refined(built.label, found)
    if out is not None:
        with writable(Path(out)):
            result.to_csv(Path(out) / "refined.csv")
    return result


def default_parts(task: Task) -> dict[str, tuple[str, ...] | None]:
    """Return the declared heads, and each layer with weights that no head holds."""
    heads = head_names(task.symmetries)
    found: dict[str, tuple[str, ...] | None] = {name: (name,) for name in heads}
    held = _held(task, heads)
    for name, module in task.model.named_modules():
        own = [n for n, p in module.named_parameters(recurse=False) if p.requires_grad]
        whole = [f"{name}.{n}" if name else n for n in own]
        left = [n for n in whole if n not in held]
        if left:
            found[name or left[0]] = tuple(left)
    return found


def _held(task: Task, heads: Sequence[str]) -> set[str]:
    """Names of tensors that heads fill."""
    if not heads:
        return set()
    masks = restrict(private_copy(task.model), task.symmetries, heads)
    return {name for name, mask in masks.items() if mask is None}


def _named(
    task: Task, parts: Mapping[str, Only] | Sequence[str] | None
) -> dict[str, tuple[str, ...] | None]:
    """Return the choices by name, each tried on the model before anything is sampled."""
    if parts is None:
        return default_parts(task)
    if isinstance(parts, str):
        parts = (parts,)
    if not isinstance(parts, Mapping):
        twice = [part for k, part in enumerate(parts) if part in list(parts)[:k]]
        if twice:
            raise InputError(f"parts name {twice[0]!r} twice: name each once")
        parts = {part: part for part in parts}
    if not parts:
        raise InputError("parts is empty, expected at least one: leave it out for heads and layers")
    found = {str(name): as_strings(only) for name, only in parts.items()}
    for name, only in found.items():
        if only is not None:
            _try(task.model, task, name, only)
    return found


def _try(model: nn.Module, task: Task, name: str, only: tuple[str, ...]) -> None:
    try:
        restrict(private_copy(model), task.symmetries, only)
    except InputError as error:
        raise InputError(f"part {name!r}: {error}") from error


def _folders(parts: Mapping[str, Any]) -> dict[str, str]:
    """Name a folder for each part, in order, with what of its name a file system takes."""
    return {
        part: f"parts/{k:03d}_{re.sub(r'[^A-Za-z0-9.-]+', '_', part).strip('_')[:60]}"
        for k, part in enumerate(parts)
    }


def _recorded(
    out: Path, parts: Mapping[str, tuple[str, ...] | None], wanted: Settings
) -> Settings | None:
    """Return the settings of a folder made before with the same parts and settings."""
    path = out / FILE
    if not path.is_file():
        return None
    try:
        record = read_json(path)
        then = {part: as_strings(only) for part, only in record["parts"].items()}
        asked, shared = (Settings.from_dict(record[key]) for key in ("asked", "settings"))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read: give another folder as out") from error
    if then != dict(parts) or list(then) != list(parts):
        raise InputError(
            f"{out} was made with the parts {some(then, 6)}: give another folder as out, or the "
            "same parts"
        )
    if asked != wanted:
        raise InputError(
            f"{out} was made with other settings: give another folder as out, or repeat what it "
            "was made with"
        )
    return shared


def _record(
    out: Path,
    name: str,
    parts: Mapping[str, tuple[str, ...] | None],
    folders: Mapping[str, str],
    asked: Settings,
    shared: Settings,
) -> None:
    record = {
        "task": name,
        "parts": {part: None if only is None else list(only) for part, only in parts.items()},
        "folders": dict(folders),
        "asked": asked.to_dict(),
        "settings": shared.to_dict(),
    }
    with writable(out):
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / FILE, json.dumps(record, indent=1).encode())
