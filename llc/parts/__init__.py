"""Parts of a network: names, patterns, slices, heads and masks of the weights to be sampled."""

from llc.parts.components import component, knows
from llc.parts.masks import as_strings, shown
from llc.parts.restriction import head_names, restrict
from llc.parts.words import Chosen, choose, united

__all__ = [
    "Chosen", "as_strings", "choose", "component", "head_names", "knows", "restrict", "shown",
    "united",
]  # fmt: skip
