"""What is known of the checkpoints of one source: the numbers in their files, and their names."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llc import formats
from llc.language import hub
from llc.ordering.names import BESIDES, cleaned

__all__ = ["Known", "without_links"]


@dataclass
class Known:
    """Names and recorded numbers of checkpoints; each file is read once, without its weights.

    Attributes:
        root: the folder that holds all of them; None for one alone, or of a hub.
    """

    root: Path | None = None
    _said: dict[Path, dict[str, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, paths: Sequence[Path]) -> "Known":
        """Begin with these checkpoints; others may follow."""
        if len(paths) < 2 or any(hub.is_named(path) for path in paths):
            return cls()
        return cls(Path(os.path.commonpath([str(path.parent) for path in paths]) or "."))

    def said(self, path: Path, key: str) -> float | None:
        """Return a number that a file holds beside its weights."""
        if path not in self._said:
            place = path
            if hub.is_named(path):
                name, revision = hub.split(str(path))
                place = Path(name) / (revision or "")
            self._said[path] = formats.recorded(place)
        return self._said[path].get(key)

    def text(self, path: Path) -> str:
        """Return the part of a path in which its step can stand."""
        if hub.is_named(path):
            name, revision = hub.split(str(path))
            # A model's own number, as of pythia-70m, is its size.
            return cleaned(revision or (Path(name).name if Path(name).is_dir() else ""))
        inside = [path.name if path.is_dir() else _stem(path)]
        if self._is_inside(path):
            inside = [*path.relative_to(self.root).parts[:-1], *inside]  # pyrefly: ignore
        if len(inside) == 1 and not path.is_dir() and formats.LAID_OUT.match(path.name):
            above = path.absolute().parent
            inside.insert(0, above.name)
            if above.name.startswith("mp_rank_"):
                inside.insert(0, above.parent.name)
        return "/".join(map(cleaned, inside))

    def short(self, path: Path) -> str:
        """Name a checkpoint in a message."""
        if hub.is_named(path):
            return str(path)
        return str(path.relative_to(self.root)) if self._is_inside(path) else path.name  # pyrefly: ignore

    def is_copy(self, path: Path) -> bool:
        """Whether a name is that of a second copy, such as last or best."""
        return bool(BESIDES.search(str(Path(self.short(path)).parent / _stem(path))))

    def _is_inside(self, path: Path) -> bool:
        return self.root is not None and path.is_relative_to(self.root)


def without_links(paths: Sequence[Path]) -> list[Path]:
    """Leave out links to others of the checkpoints, such as a trainer's last."""
    there = {os.path.realpath(p) for p in paths if not hub.is_named(p) and not p.is_symlink()}
    return [p for p in paths if not (p.is_symlink() and os.path.realpath(p) in there)]


def _stem(path: Path) -> str:
    ending = next((each for each in formats.READ if path.name.endswith(each)), path.suffix)
    return path.name.removesuffix(ending)
