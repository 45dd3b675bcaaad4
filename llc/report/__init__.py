"""One page about a run: figures, checkpoints, transitions, verdicts, settings."""

from llc.report.page import write_report

__all__ = ["write_report"]
