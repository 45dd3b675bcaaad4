"""A progress bar for one estimate: phases as they come."""

import sys
from types import TracebackType

__all__ = ["Bar"]


class Bar:
    """Shows phase and steps on standard error; silent where that is no terminal.

    Use as a context manager; the value is the report function samplers call.
    """

    def __init__(self, name: str) -> None:
        from tqdm import tqdm

        self._bar = tqdm(desc=name, unit="step", leave=False, disable=not sys.stderr.isatty())
        self._phase = ""

    def __enter__(self) -> "Bar":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if not self._bar.disable:
            self._bar.write(text, file=sys.stderr)

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        """Show ``done`` steps of a phase, of ``total`` where known."""
        if phase != self._phase:
            self._phase = phase
            self._bar.reset(total=total)
            self._bar.set_postfix_str(phase)
        self._bar.total = total
        self._bar.update(done - self._bar.n)
