"""Help texts: the docstring below each field, its lines joined."""

import ast
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import MappingProxyType

__all__ = ["explain"]


def explain(*kinds: type) -> None:
    """Hand each field's docstring to the parser as one line.

    The parser reads docstrings itself, but keeps the line breaks of the source, which then stand
    in the middle of sentences.
    """
    for module in {
        base.__module__ for kind in kinds for base in kind.__mro__ if is_dataclass(base)
    }:
        for name, said in _docstrings(Path(str(sys.modules[module].__file__))).items():
            for field in fields(getattr(sys.modules[module], name)):
                if field.name in said:
                    help_ = " ".join(said[field.name].split())
                    field.metadata = MappingProxyType({**field.metadata, "help": help_})


def _docstrings(path: Path) -> dict[str, dict[str, str]]:
    """Class → field → the string below it, of a source file."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except OSError:
        # Without a source there is the parser's own reading.
        return {}
    found: dict[str, dict[str, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            said = found.setdefault(node.name, {})
            for field, below in zip(node.body, node.body[1:], strict=False):
                text = below.value if isinstance(below, ast.Expr) else None
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and isinstance(text, ast.Constant)
                ):
                    said[field.target.id] = str(text.value)
    return found
