"""Weights in files and folders of every common kind, as tensors by name; nothing is run."""

from llc.formats.pickled import allowing
from llc.formats.weights import (
    INDEX,
    LOG,
    SUFFIXES,
    WRAPPERS,
    check_size,
    find_state_dict,
    is_model_folder,
    is_state_dict,
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
    "allowing",
    "check_size",
    "find_state_dict",
    "is_model_folder",
    "is_state_dict",
    "numbers",
    "read_file",
    "read_folder",
    "read_shards",
    "unwrap",
]
