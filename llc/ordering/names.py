"""Numbers in the names of checkpoints, and what they are numbers of."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "APART",
    "BESIDES",
    "COPY",
    "DATE",
    "EPOCH",
    "REWRITTEN",
    "WORDS",
    "Number",
    "after",
    "cleaned",
    "numbers_in",
]

WORDS: Mapping[str, str] = {
    "step": r"(?:global|train|time)?steps?",
    "iteration": r"iter(?:ation)?s?|it",
    "update": r"updates?",
    "epoch": r"epochs?|ep",
    "checkpoint": r"checkpoints?|ckpts?|chkpts?",
}
"""Words for the progress of training, most telling first, and how names write them."""
EPOCH = "epoch"
APART = frozenset((
    "seed", "s", "fold", "split", "cv", "stage", "phase", "run", "exp", "experiment", "trial",
    "rep", "replica", "version", "ver", "v", "model_seed", "ingredient",
))  # fmt: skip
"""Numbers of these tell runs apart: files that differ in one are not of one run."""
NEVER = APART | frozenset((
    "loss", "acc", "accuracy", "err", "error", "auc", "f1", "map", "miou", "iou", "bleu", "rouge",
    "ppl", "perplexity", "score", "reward", "return", "psnr", "ssim", "fid", "wer", "cer", "mse",
    "mae", "rmse", "nll", "bpb", "bpc", "elbo", "metric", "lr", "wd", "decay", "gamma", "beta",
    "temp", "dropout", "token", "tokens", "tok", "rank", "gpu", "gpus", "node", "shard", "part",
    "batch", "batchsize", "bs", "bsz", "layer", "layers", "width", "depth", "dim", "hidden", "head",
    "heads", "size", "res", "crop", "patch", "img", "params", "of", "top", "k", "port", "pid",
    "time", "date", "job",
))  # fmt: skip
"""Numbers of these are not the progress of training, whatever they do over a run."""
BESIDES = re.compile(
    r"(?:^|[-_./ ])(?:best|last|latest|final|backup|bak|copy)(?![a-z])|-v\d+$| \(\d+\)$",
    re.IGNORECASE,
)
"""Names of second copies: a trainer's best and last, backups, and what Lightning calls -v1."""
REWRITTEN = re.compile(r"(?<![A-Za-z])(?:best|last|latest)(?![A-Za-z])", re.IGNORECASE)
"""Names of copies that training writes again and again, where they hold no number."""
COPY = re.compile(r"-v\d+$| \(\d+\)$")
DATE = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0[1-9]|[12]\d|3[01])([-_.])(?:0[1-9]|1[0-2])\2(?:19|20)\d\d)(?!\d)"
    r"(?:[T_ -]?\d\d([-:_h.]?)\d\d(?:[-:_m.]?\d\d)?s?(?![\dA-Za-z]))?"
)
NUMBER = re.compile(
    r"(?<!\d)(\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)([kKmMbB]?)(?![\dA-Za-z])"
)
SUFFIX = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
# Seconds since 1970 of the years in which people save checkpoints, or thousandths of them.
CLOCK = ((10**9, 2.2 * 10**9), (10**12, 2.2 * 10**12))
GAP = r"[ =_:#.\-]{0,2}"


@dataclass(frozen=True)
class Number:
    """A number in a name.

    Attributes:
        value: as a whole number; None where it is none.
        word: the letters before it, or, where a word of progress follows it, that.
        usable: whether it may be the step where it is the one number that varies.
    """

    value: int | None
    word: str
    usable: bool


def cleaned(text: str) -> str:
    """Take off what numbers parts, as 00001-of-00002, and marks of second copies."""
    return COPY.sub("", re.sub(r"\d+-of-\d+", "", text))


def numbers_in(text: str) -> list[Number]:
    """Return all numbers in a name, dates left out, in order."""
    dates = [match.span() for match in DATE.finditer(text)]
    found = []
    for match in NUMBER.finditer(text):
        if any(start <= match.start() < end for start, end in dates):
            continue
        before = re.search(rf"(\d?)([A-Za-z]*)({GAP})$", text[: match.start()])
        word = before[2] if before else ""
        # As in hashes, which are letters and digits in any order.
        mixed = bool(before and before[1] and word and not before[3])
        behind = re.match(rf"[-_]?([A-Za-z]+)(?![A-Za-z]|{GAP}\d)", text[match.end() :])
        follows = behind[1].lower() if behind else ""
        value = _value(match)
        named = text[: match.start()].endswith("=")
        usable = (
            value is not None
            and match[2] not in ("b", "B")
            and "." not in match[1]
            and not named
            and not mixed
            and word.lower() not in NEVER
            and follows not in ("token", "tokens", "tok", "params", "gpus", "layers", "seeds")
            and not any(low <= value < high for low, high in CLOCK)
        )
        found.append(Number(value, word.lower() or follows, usable))
    return found


def after(text: str, word: str) -> list[int | None]:
    """Return the numbers that follow a word, or stand before it where none follows one.

    Args:
        text: a name.
        word: one of `WORDS`, or any other word, taken as it is.
    """
    pattern = WORDS.get(word, re.escape(word))
    dates = [m.span() for m in DATE.finditer(text) if m[1] or m[2] or word == "checkpoint"]
    number = NUMBER.pattern
    found = []
    for match in re.finditer(rf"(?<![A-Za-z])(?:{pattern}){GAP}({number})", text, re.IGNORECASE):
        digits = NUMBER.match(text, match.start(1))
        if digits is None or any(start <= match.start(1) < end for start, end in dates):
            continue
        # One thousand, or the first of two numbers: nobody can tell.
        split = word != EPOCH and word in WORDS and re.match(r"_\d{3}(?!\d)", text[match.end() :])
        found.append(None if split and len(digits[1]) < 4 else _value(digits))
    if found:
        return found
    behind = rf"[-_ ]?(?:{pattern})(?![A-Za-z])"
    loose = re.compile(NUMBER.pattern.replace(r"(?![\dA-Za-z])", "", 1) + behind, re.IGNORECASE)
    return [_value(match) for match in loose.finditer(text)]


def _value(match: re.Match[str]) -> int | None:
    value = float(match[1].replace(",", "")) * SUFFIX[match[2].lower()]
    exact = round(value)
    return exact if abs(value - exact) < 1e-6 * max(1.0, value) and exact < 2**63 else None
