"""What the suites against hostile and malformed input tried, counted, for the end of a run."""

from collections import Counter

TRIED: Counter = Counter()
BAD: Counter = Counter()
WORDS = {
    "command lines": "malformed command lines: {tried:,} tried, {bad:,} tracebacks",
    "pickles": "malicious pickles: {tried:,} tried, {bad:,} run",
    "files": "broken, oversized, mislabelled files: {tried:,} tried, {bad:,} not refused cleanly",
    "examples": "generated models, losses and data: {tried:,} tried, {bad:,} failures",
    "losses": "losses gone wrong on the way: {tried:,} tried, {bad:,} believed",
    "writes": "disks full at one write: {tried:,} tried, {bad:,} runs lost",
    "kills": "processes killed at a random moment: {tried:,} tried, {bad:,} runs lost",
    "commands": "commands without a network: {tried:,} tried, {bad:,} connections",
}


def count(what, *, bad=False):
    """Count one try; a bad one is counted before its test fails."""
    assert what in WORDS
    TRIED[what] += 1
    BAD[what] += bad


def lines():
    """One line for each kind of try that was made."""
    return [
        words.format(tried=TRIED[what], bad=BAD[what])
        for what, words in WORDS.items()
        if TRIED[what]
    ]
