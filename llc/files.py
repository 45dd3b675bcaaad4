"""Files and folders that are either whole or absent, whatever happens to the process."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["check_writable", "read_json", "write_folder", "write_whole"]


def read_json(path: Path) -> Any:
    """Read a file of JSON, whatever somebody put there.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, no UTF-8, or nested deeper than anybody means.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("its brackets are nested too deep") from None


def check_writable(folder: Path) -> None:
    """Try whether something can be written into a folder, which is not made for that.

    Raises:
        OSError: it cannot; it names the folder.
    """
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error


def write_whole(path: Path, content: bytes, *, new: bool = False) -> None:
    """Write to a temporary name beside the target, flush to disk, and rename over it.

    With ``new`` a file that is there already stays as it is, whichever process wrote it first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        if new:
            _put_first(temporary, path)
        else:
            os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Let a function write a folder under a temporary name, and rename it into its place.

    What stood there goes only when the new one is whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        write(temporary / "new")
        if path.exists():
            os.replace(path, temporary / "old")
        os.replace(temporary / "new", path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_first(temporary: str, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:
        # A file system without hard links, where whoever comes first is not settled to the last.
        if not path.exists():
            os.replace(temporary, path)
    Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
