"""Weights in files and folders of every common kind, as tensors by name; nothing is run."""

from llc.formats.layouts import (
    INDEX,
    INDEX_OF_PICKLES,
    LAID_OUT,
    READ,
    SUFFIXES,
    checkpoints_in,
    is_checkpoint,
    is_model_folder,
    one_in,
)
from llc.formats.pickled import allowing
from llc.formats.recorded import EPOCHS, STEPS, header, recorded
from llc.formats.weights import (
    LOG,
    WRAPPERS,
    check_size,
    find_state_dict,
    is_state_dict,
    numbers,
    read_file,
    read_folder,
    read_shards,
    unwrap,
)

__all__ = [
    "EPOCHS",
    "INDEX",
    "INDEX_OF_PICKLES",
    "LAID_OUT",
    "LOG",
    "READ",
    "STEPS",
    "SUFFIXES",
    "WRAPPERS",
    "allowing",
    "check_size",
    "checkpoints_in",
    "find_state_dict",
    "header",
    "is_checkpoint",
    "is_model_folder",
    "is_state_dict",
    "numbers",
    "one_in",
    "read_file",
    "read_folder",
    "read_shards",
    "recorded",
    "unwrap",
]
