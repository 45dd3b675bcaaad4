"""The one exception a user's mistake raises, and the one sentence that tells it."""

from collections.abc import Iterable

__all__ = ["InputError", "brief", "some"]

LONGEST = 1000
"""Characters of a message: more than any of ours needs, and few enough to be read."""
ENDING = 400
FOREIGN = 200


class InputError(ValueError):
    """Something the caller gave cannot be used.

    The message is one sentence: what was given, what is expected, what to write
    instead. The command line prints it alone and exits with code 2. Of a sentence longer than
    1,000 characters the middle is left out, since its end says what to write.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(brief(message, LONGEST, ENDING))


def brief(said: object, most: int = FOREIGN, ending: int = 0) -> str:
    """Return somebody else's words on one line, shortened to ``most`` characters.

    Args:
        said: a text, or an error.
        most: characters of the result at most.
        ending: so many of them are the text's own end; the middle is left out then.
    """
    text = " ".join(str(said).split())
    if len(text) <= most:
        return text
    if not ending:
        return f"{text[: most - 1].rstrip()}…"
    return f"{text[: most - ending - 3].rstrip()} … {text[-ending:].lstrip()}"


def some(items: Iterable[object], most: int = 3) -> str:
    """Name the first few of many things, and say how many more there are."""
    names = [brief(item, 80) for item in items]
    if len(names) <= most + 1:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"
