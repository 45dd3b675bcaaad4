"""Arrays and archives of other people's making, held to the size they have before they are read.

A few kilobytes of a zip archive can ask for terabytes: by entries compressed a thousandfold, by
entries that overlap, or by a header that announces an array which is not there.
"""

import io
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

__all__ = ["UNREADABLE", "check_archive", "entry_of", "names_of", "read_array", "read_arrays"]

ROOM = 256 * 2**20
"""Bytes that compressed arrays may always unpack to; more only at a credible ratio."""
MOST_RATIO = 200
UNREADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, MemoryError,
    ArithmeticError, RecursionError, SyntaxError, NotImplementedError, RuntimeError,
    tokenize.TokenError, Warning, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What reading a broken file may raise, by whichever library reads it; warnings under -W error."""


def check_archive(archive: zipfile.ZipFile, size: int, *, compressed: bool) -> None:
    """Refuse an archive that would unpack to more than a file of its size can hold.

    Args:
        archive: opened; nothing of it is unpacked here.
        size: of the file, in bytes.
        compressed: whether what writes such files compresses: then up to 200 times the size, or
            256 MiB, are believed, else no more than the size itself.

    Raises:
        ValueError: it would.
    """
    entries = archive.infolist()
    whole = sum(entry.file_size for entry in entries)
    most = max(ROOM, MOST_RATIO * size) if compressed else size
    # Entries that overlap are each shorter than the file, and together longer.
    if whole > most or sum(entry.compress_size for entry in entries) > size:
        raise ValueError(
            f"it is an archive of {_bytes(size)} that would unpack to {_bytes(whole)}, and is not "
            "unpacked"
        )


def entry_of(path: Path, ending: str) -> bytes | None:
    """Return the entry of an archive that is not compressed whose name has this ending, or None.

    Raises:
        ValueError: the archive would unpack to more than its own size.
        zipfile.BadZipFile: it is none.
    """
    with zipfile.ZipFile(path) as archive:
        check_archive(archive, path.stat().st_size, compressed=False)
        name = next((n for n in archive.namelist() if n.endswith(ending)), None)
        return None if name is None else archive.read(name)


def read_array(path: Path) -> np.ndarray:
    """Read a ``.npy`` file of numbers: nothing pickled, no more than the file holds.

    Raises:
        ValueError: it is none, or broken.
    """
    try:
        with path.open("rb") as file:
            return _numbers(file, path.stat().st_size)
    except UNREADABLE as error:
        raise ValueError(_said(error)) from error


def read_arrays(path: Path) -> Mapping[str, np.ndarray]:
    """Read a ``.npz`` file of numbers: nothing pickled, no more than an archive may unpack to.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is none, or broken.
    """
    raw = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            check_archive(archive, len(raw), compressed=True)
            found = {}
            for entry in archive.infolist():
                if entry.filename.endswith(".npy"):
                    with archive.open(entry) as file:
                        found[entry.filename[:-4]] = _numbers(file, entry.file_size)
            return found
    except UNREADABLE as error:
        raise ValueError(_said(error)) from error


def names_of(path: Path) -> set[str]:
    """Return the names of the arrays of a ``.npz`` file by its table of contents alone.

    Raises:
        OSError: it cannot be read.
        zipfile.BadZipFile: it is none, or cut short.
    """
    with zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist()}


def _numbers(file, size: int) -> np.ndarray:  # noqa: ANN001 - any readable file
    """Read one array, once its header has been held against the bytes that are there."""
    version = np.lib.format.read_magic(file)
    if version > (2, 0):
        raise ValueError(f"it is an array of format {version}, expected version 1 or 2")
    head = np.lib.format.read_array_header_1_0 if version == (1, 0) else (
        np.lib.format.read_array_header_2_0
    )  # fmt: skip
    shape, by_column, dtype = head(file)
    count = 1
    for length in shape:
        count *= int(length)
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, expected numbers")
    if min(shape, default=0) < 0 or count * dtype.itemsize > size:
        raise ValueError(
            f"its header announces {_bytes(count * dtype.itemsize)}, more than the file holds"
        )
    raw = file.read(count * dtype.itemsize)
    if len(raw) < count * dtype.itemsize:
        raise ValueError("it is cut short")
    flat = np.frombuffer(raw, dtype, count) if count else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if by_column else "C").copy()


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _bytes(count: int) -> str:
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.0f} TB"
