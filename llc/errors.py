"""The one exception a user's mistake raises, and the one sentence that tells it."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Something the caller gave cannot be used.

    The message is one sentence: what was given, what is expected, what to write
    instead. The command line prints it alone and exits with code 2.
    """
