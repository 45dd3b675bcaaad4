"""Weights in files and folders of every common kind, as tensors by name; nothing is run."""

from llc.formats.entries import dropped, find_state_dict, is_state_dict, relabelled
from llc.formats.fitting import fitted
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
from llc.formats.memory import Place, overlap, place_of
from llc.formats.pickled import allowing
from llc.formats.recorded import EPOCHS, STEPS, header, recorded
from llc.formats.weights import (
    LOG,
    WRAPPERS,
    check_size,
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
    "Place",
    "allowing",
    "check_size",
    "checkpoints_in",
    "dropped",
    "find_state_dict",
    "fitted",
    "header",
    "is_checkpoint",
    "is_model_folder",
    "is_state_dict",
    "numbers",
    "one_in",
    "overlap",
    "place_of",
    "read_file",
    "read_folder",
    "read_shards",
    "recorded",
    "relabelled",
    "unwrap",
]
