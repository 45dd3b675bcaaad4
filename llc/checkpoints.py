"""Checkpoints on disk: find them, read weights of any common kind, write our own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from llc import formats
from llc.errors import InputError
from llc.files import write_whole
from llc.formats import SUFFIXES, WRAPPERS
from llc.language import hub
from llc.ordering import Ordering

__all__ = [
    "SUFFIXES",
    "WRAPPERS",
    "Checkpoint",
    "find_checkpoints",
    "load_weights",
    "read_checkpoint",
    "read_metadata",
    "save_checkpoint",
]


@dataclass(frozen=True)
class Checkpoint:
    """One saved moment of training.

    Attributes:
        step: training step.
        path: file that holds the weights.
        metadata: what was saved beside them (losses, accuracies); empty if nothing was.
    """

    step: int
    path: Path
    metadata: Mapping[str, float] = field(default_factory=dict)

    def weights(self) -> dict[str, Tensor]:
        """Read the weights."""
        return load_weights(self.path)


def find_checkpoints(folder: str | Path, *, step_from: str | None = None) -> list[Checkpoint]:
    """List the checkpoints of a folder by training step.

    Args:
        folder: holds files, or a folder for each checkpoint.
        step_from: where the step stands, as for `llc.trace`; found out if None.

    Raises:
        InputError: no such folder, no checkpoint in it, a checkpoint without a step, or two of the
            same step.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder, expected one that holds checkpoints")
    paths = formats.checkpoints_in(folder)
    if not paths:
        raise InputError(
            f"{folder} holds no checkpoint, expected files ending in {', '.join(SUFFIXES)}"
        )
    found = Ordering(str(folder), step_from, load_weights).steps(paths)
    return [Checkpoint(step, path, read_metadata(path)) for step, path in found]


def load_weights(
    path: str | Path, entry: str | None = None, drop: str | Sequence[str] = ()
) -> dict[str, Tensor]:
    """Read a state dict from ``.safetensors``, ``.npz``, or a pickle of torch that holds one.

    Pickles are ``.pt``, ``.pth``, ``.ckpt``, ``.bin`` and ``.pth.tar``.

    A training script's dictionary, or Lightning's, is searched for the one entry that maps names to
    tensors; prefixes of ``DataParallel`` and ``torch.compile`` are removed, and the log of ``llc``
    says so. Nothing but tensors and plain values is unpickled, and nothing is run: what a pickle
    asks for beside them is refused, unless `llc.formats.allowing` puts inert stand-ins there. A
    folder may hold one model: whole
    or in several files with their index, or what ``torch.distributed.checkpoint``, DeepSpeed or
    Megatron saved. ``hf:NAME@REVISION``
    names a model of the Hugging Face hub, in the local cache or to be downloaded, and
    ``hf:FOLDER`` one that ``save_pretrained`` wrote; both are read by transformers.

    Args:
        path: the file, folder or name.
        entry: which state dict to read from a file that holds several, with dots between levels:
            ``"model_ema"``, ``"ema.shadow"``. In a file that is one flat state dict, the prefix of
            the names that are meant. Default: the only state dict of the file.
        drop: patterns of names to leave out, as in `fnmatch`: ``"head.*"``.

    Raises:
        InputError: the file is missing, is no checkpoint, or holds several state dicts; or it has
            no such entry.
    """
    return read_checkpoint(path, entry, drop)[0]


def read_checkpoint(
    path: str | Path, entry: str | None = None, drop: str | Sequence[str] = ()
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Read weights, as `load_weights`, and the numbers saved beside them, from one file.

    They stand in the header of a safetensors file, or beside the state dict in a dictionary of
    a ``.pt`` or ``.pth`` file.

    Raises:
        InputError: as `load_weights`.
    """
    drop = (drop,) if isinstance(drop, str) else tuple(drop)
    place = str(path) if hub.is_named(path) else None
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    if place is None and (path == folder or path.name in hub.WHOLE) and hub.is_saved(folder):
        # Names in files of transformers need not be those of its modules.
        place = f"{hub.PREFIX}{folder}"
    if place is not None:
        if entry is not None:
            raise InputError(f"{place} is one model, without entries: drop entry={entry!r}")
        return formats.dropped(hub.load_weights(place), drop), {}
    index = path.name.endswith((formats.INDEX, formats.INDEX_OF_PICKLES))
    if path.is_dir():
        content = formats.read_folder(path)
    elif index:
        content = formats.read_shards(path)
    else:
        content = formats.read_file(path)
    found = formats.find_state_dict(content, path.name, entry)
    formats.check_size(found, path if path.is_dir() else path.parent if index else path)
    # By their names in the file, and by those that messages use.
    weights = formats.unwrap(formats.dropped(found, drop), path.name)
    weights = formats.dropped(weights, drop)
    if path.suffix == ".safetensors":
        return weights, read_metadata(path)
    return weights, {} if formats.is_state_dict(content) else formats.numbers(content)


def read_metadata(path: str | Path) -> dict[str, float]:
    """Read the numbers saved beside the weights of a safetensors file; others have none."""
    path = Path(path)
    return formats.header(path) if path.suffix == ".safetensors" else {}


def save_checkpoint(
    folder: Path, step: int, weights: Mapping[str, Tensor], metadata: Mapping[str, float]
) -> Checkpoint:
    """Write ``step_NNNNNNN.safetensors`` whole or not at all.

    Args:
        folder: where it goes; made if it does not exist.
        step: training step, which names the file.
        weights: a state dict; tensors are copied to the CPU.
        metadata: numbers that go into the file's header and become columns of a trajectory, such
            as losses. ``exact_llc`` is drawn as λ.

    Returns:
        The checkpoint, which reads its weights when asked.
    """
    from safetensors.torch import save

    path = folder / f"step_{step:07d}.safetensors"
    header = {key: repr(float(value)) for key, value in metadata.items()}
    write_whole(
        path,
        save(
            {
                k: w.detach().cpu().clone().contiguous()
                for k, w in weights.items()
                if isinstance(w, Tensor)  # not modules' extra states, which the format has not
            },
            header,
        ),
    )
    return Checkpoint(step, path, dict(metadata))
