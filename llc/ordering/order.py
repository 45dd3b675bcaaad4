"""One rule that gives every checkpoint of a source its training step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from llc import formats
from llc.errors import InputError
from llc.language import hub
from llc.ordering.known import Known, without_links
from llc.ordering.names import APART, DATE, REWRITTEN, numbers_in
from llc.ordering.rules import ONE, Rule, rules_of, rules_of_word

__all__ = ["Ordering"]

FLAG = "--step-from (step_from)"
SHOWN = 3


@dataclass
class Ordering:
    """Training steps of the checkpoints of one source, all by one rule.

    The rule is the first that tells the checkpoints apart of: a number of steps that all files
    hold (`llc.formats.STEPS`); a number after step, iteration or update in all names; an epoch that
    all files hold, times steps per epoch where they hold that too; a number after epoch or
    checkpoint in all names; the one number of the names that varies. What contradicts an epoch, or
    another number of steps in the files, is ambiguous and refused.

    Attributes:
        where: the source, for messages.
        step_from: None; ``"file"`` or ``"name"``, to look nowhere else; or what to take: a key of
            the files, a word before or after a number in the names, or k for the k-th number of a
            name. ``"file:WORD"`` and ``"name:WORD"`` take a word from one place only.
        load: reads a checkpoint's weights, to compare two of one step.
    """

    where: str
    step_from: str | None = None
    load: Callable[[Path], Mapping[str, Tensor]] | None = None
    _known: Known = field(default_factory=Known)
    _rule: Rule | None = None

    def steps(self, paths: Sequence[Path]) -> list[tuple[int, Path]]:
        """Return (step, path), sorted by step; later calls go by the rule that the first one found.

        A second copy, such as ``last.ckpt``, is left out where its weights are those of another.

        Raises:
            InputError: no rule, rules that disagree, or two checkpoints of one step.
        """
        paths = without_links(paths)
        if not paths:
            return []
        left: list[Path] = []
        if self._rule is None:
            self._known = Known.of(paths)
            self._rule, left = self._chosen(paths)
        rule = self._rule
        values = {path: rule.read(path) for path in paths if path not in left}
        for path, value in values.items():
            if value is None:
                raise self._lacking(path, rule, values)
            if paths.count(path) > 1:
                raise self._twice(path, path, value)
        pairs = sorted((v, p) for p, v in values.items() if v is not None)
        for path in left:
            if not any(self.alike(other, path) for _, other in reversed(pairs)):
                raise InputError(
                    f"{self.where}: {self._known.short(path)} has no training step, and its "
                    "weights differ from those of the others: rename it or leave it out"
                )
        found: dict[int, Path] = {}
        for step, path in sorted(pairs, key=lambda pair: self._known.is_copy(pair[1])):
            if step not in found:
                found[step] = path
            elif not self._known.is_copy(path):
                raise self._twice(found[step], path, step)
            elif not self.alike(found[step], path):
                raise self._twice(found[step], path, step, ", and their weights differ")
        return sorted(found.items())

    def is_rewritten(self, path: Path) -> bool:
        """Whether a name is that of a copy which training writes anew, such as last or best."""
        text = self._known.text(path)
        return bool(REWRITTEN.search(text)) and not numbers_in(text)

    def _chosen(self, paths: list[Path]) -> tuple[Rule, list[Path]]:
        """Return the rule, and the second copies that it does not speak of."""
        if self.step_from not in (None, "file", "name"):
            return self._asked(paths), []
        plain = [path for path in paths if not self._known.is_copy(path)]
        try:
            rule = self._first(plain or paths)
        except InputError:
            if len(plain) in (0, len(paths)):
                raise
            return self._first(paths), []
        return rule, [p for p in paths if p not in plain and plain and rule.read(p) is None]

    def _first(self, paths: list[Path]) -> Rule:
        rules = [r for r in rules_of(self._known, paths) if r.kind.startswith(self.step_from or "")]
        usable = [rule for rule in rules if None not in rule.values(paths)]
        telling = [r for r in usable if not paths[1:] or len(set(r.values(paths))) > 1]
        if any(rule.kind == "file" and rule not in telling for rule in usable):
            # Files of one and the same step: what else varies in their names is not the step.
            telling = [rule for rule in telling if rule.kind != ONE]
        chosen = next((rule for rule in telling if not rule.repeats(paths)), None)
        if telling and (chosen is None or telling[0].kind == "file"):
            chosen = telling[0]
        if chosen is None:
            if usable and paths[1:]:
                return usable[0]  # whose one step for all is refused
            raise self._unknown(paths, rules)
        self._refuse_other_runs(paths, chosen)
        for other in usable:
            # Two places of one word in a name, or two orders; over a name the file wins.
            again = other.label == chosen.label and other in telling
            twice = again and other.values(paths) != chosen.values(paths)
            weighed = other.kind != ONE and (chosen.kind, other.kind) != ("file", "name")
            if twice or (weighed and chosen.contradicts(other, paths)):
                raise self._ambiguous(paths, chosen, other)
        self._tell(paths, chosen, rules)
        return chosen

    def _asked(self, paths: list[Path]) -> Rule:
        assert self.step_from is not None
        rules = rules_of_word(self._known, paths, self.step_from)
        for rule in rules:
            if None not in rule.values(paths):
                return rule
        best = max(rules, key=lambda rule: len(paths) - rule.values(paths).count(None))
        path = next(path for path in paths if best.read(path) is None)
        raise InputError(
            f"step_from is {self.step_from!r}, and {self._known.short(path)} has no whole number "
            "of that name, expected one in every checkpoint: rename it or leave it out"
        )

    def alike(self, one: Path, other: Path) -> bool:
        """Whether two checkpoints hold the same weights; the log says which is left out."""
        if self.load is None or hub.is_named(one):
            return False
        try:
            first, second = self.load(one), self.load(other)
        except InputError:
            return False
        if set(first) != set(second) or any(not torch.equal(first[k], second[k]) for k in first):
            return False
        formats.LOG.info(
            "%s holds the weights of %s, and is left out",
            self._known.short(other), self._known.short(one),
        )  # fmt: skip
        return True

    def _tell(self, paths: list[Path], chosen: Rule, rules: list[Rule]) -> None:
        """Say so where the files' steps are not those of the names, or only some files hold one."""
        say = self._known.short
        for rule in rules:
            values = rule.values(paths)
            if chosen.kind == "file" and rule.label == "'step' in the name" and None not in values:
                other = next((p for p in paths if rule.read(p) != chosen.read(p)), None)
                if other is not None:
                    formats.LOG.info(
                        "%s is step %s by %s, whatever its name says: --step-from name takes the "
                        "names", say(other), chosen.read(other), chosen.label,
                    )  # fmt: skip
            partly = rule.kind == "file" and 0 < values.count(None) < len(paths)
            if chosen.kind != "file" and partly:
                formats.LOG.info(
                    "%s has no %s as others have: all steps are by %s",
                    say(paths[values.index(None)]), rule.label, chosen.label,
                )  # fmt: skip

    def _refuse_other_runs(self, paths: list[Path], chosen: Rule) -> None:
        every = [n for path in paths for n in numbers_in(self._known.text(path))]
        place, word_of = chosen.kind.partition(":")[0], chosen.label.split()[0].strip("'")
        such = "" if chosen.kind == ONE else f", for instance {place}:{word_of}"
        for word in sorted(APART):
            values = {number.value for number in every if number.word == word}
            if len(values) > 1:
                raise InputError(
                    f"{self.where}: the names differ in {word} ({_few(values)}), expected the "
                    f"checkpoints of one run: give those of one, or say with {FLAG} what the step "
                    f"is{such}"
                )

    def _twice(self, one: Path, other: Path, step: int, more: str = "") -> InputError:
        return InputError(
            f"{self.where}: {self._known.short(one)} and {self._known.short(other)} are both step "
            f"{step}{more}: keep one of them, or say with {FLAG} where the step stands"
        )

    def _lacking(self, path: Path, rule: Rule, values: Mapping[Path, int | None]) -> InputError:
        if rule.kind.startswith("file") and self.load is not None:
            self.load(path)  # which says so if it cannot be read at all
        other = next(((p, v) for p, v in values.items() if v is not None), None)
        like = "" if other is None else f" ({self._known.short(other[0])} has {other[1]})"
        return InputError(
            f"{self.where}: {self._known.short(path)} has no training step by {rule.label}{like}, "
            "expected one rule for all checkpoints: rename it or leave it out"
        )

    def _ambiguous(self, paths: list[Path], one: Rule, other: Rule) -> InputError:
        said = " and ".join(f"{r.label} ({_few(r.values(paths))})" for r in (one, other))
        return InputError(
            f"{self.where}: the training step is ambiguous, since {said} disagree: say with {FLAG} "
            "which it is"
        )

    def _unknown(self, paths: list[Path], rules: list[Rule]) -> InputError:
        """Say why no rule can be used."""
        partly = [r for r in rules if r.kind != ONE and set(r.values(paths)) != {None}]
        if partly and paths[1:]:
            best = max(partly, key=lambda rule: -rule.values(paths).count(None))
            values = dict(zip(paths, best.values(paths), strict=True))
            return self._lacking(next(p for p in paths if values[p] is None), best, values)
        every = [numbers_in(self._known.text(path)) for path in paths]
        path = next((p for p, each in zip(paths, every, strict=True) if not each), None)
        if path is None and len(set(map(len, every))) > 1:
            path = paths[0]
        if path is None:
            columns = [
                f"{column[0].word or f'number {k + 1}'} ({_few([n.value for n in column])})"
                for k, column in enumerate(zip(*every, strict=True))
                if len({n.value for n in column}) > 1 or not paths[1:]
            ]
            return InputError(
                f"{self.where}: the training step is ambiguous, since the files hold none and the "
                f"names have {', '.join(columns[:4]) or 'no number that differs'}: say with {FLAG} "
                "which it is, or rename the files to step_1000 and so on"
            )
        if hub.is_named(path):
            return InputError(
                f"{path} has no training step in its revision: write hf:NAME@step{{0,1,2}}, or "
                "give pairs (step, weights)"
            )
        dated = ", where a date is not one" if DATE.search(self._known.text(path)) else ""
        return InputError(
            f"{self._known.short(path)} has no training step in its name{dated}, nor in the file: "
            "call it "
            f"step_1000{'' if path.is_dir() else path.suffix}, say, or give pairs (step, weights)"
        )


def _few(values: Sequence[int | None] | set[int | None]) -> str:
    shown = list(map(str, dict.fromkeys(values)))
    return ", ".join(shown[:SHOWN]) + (", …" if len(shown) > SHOWN else "")
