"""Every claim of accuracy, checkable in one command: the suite of truths and its table."""

from llc.validation.run import validate
from llc.validation.validation import Row, Validation

__all__ = ["Row", "Validation", "validate"]
