"""Weights in files and folders of every common kind, as tensors by name; nothing is run."""

from llc.formats.entries import dropped, find_state_dict, is_state_dict, relabelled
from llc.formats.fitting import fitted
from llc.formats.memory import Place, overlap, place_of
from llc.formats.pickled import allowing
from llc.formats.weights import (
    INDEX,
    LOG,
    SUFFIXES,
    WRAPPERS,
    check_size,
    is_model_folder,
    numbers,
    read_file,
    read_folder,
    read_shards,
    unwrap,
)

__all__ = [
    "INDEX",
    "LOG",
    "SUFFIXES",
    "WRAPPERS",
    "Place",
    "allowing",
    "check_size",
    "dropped",
    "find_state_dict",
    "fitted",
    "is_model_folder",
    "is_state_dict",
    "numbers",
    "overlap",
    "place_of",
    "read_file",
    "read_folder",
    "read_shards",
    "relabelled",
    "unwrap",
]
