"""One trace while it runs: what to do for each checkpoint, what is done, what was skipped."""

from collections.abc import Iterator
from contextlib import closing

from llc.errors import InputError
from llc.trajectory.crew import Crew, share
from llc.trajectory.disk import writable
from llc.trajectory.sources import Item
from llc.trajectory.store import Kept, RunFolder
from llc.trajectory.trajectory import Point, Trajectory
from llc.trajectory.watch import Watch
from llc.trajectory.work import Job, Order, Outcome

__all__ = ["Run"]


class Run:
    """What has been done of a trace."""

    def __init__(
        self, order: Order, folder: RunFolder | None, shard: tuple[int, int] | None, stack: int
    ) -> None:
        self.order, self.folder, self.shard, self.stack = order, folder, shard, stack
        self.first, self.every = (0, 1) if shard is None else (shard[0] - 1, shard[1])
        self.steps: list[int] = []
        self.done: dict[int, Kept] = {}
        self.skipped: dict[int, str] = {}

    def go(self, feed: Iterator[Item | None], crew: Crew, watch: Watch, *, patient: bool) -> None:
        """Take checkpoints as they come, hand them out, keep what comes back."""
        finished = False
        try:
            with closing(share(self._groups(feed, watch), crew)) as outcomes:
                for outcome in outcomes:
                    self._keep(outcome)
                    found = self.done.get(outcome.step)
                    fresh = outcome.estimate is not None or bool(outcome.reason)
                    watch(outcome.step, None if found is None else found.estimate, fresh=fresh)
            finished = True
        except KeyboardInterrupt:
            # The one way to end a trace that follows a run.
            if not patient:
                raise
        finally:
            crew.close(done=finished)

    def _groups(self, feed: Iterator[Item | None], watch: Watch) -> Iterator[list[Job] | None]:
        """Yield jobs to be done together; None where there is nothing at present."""
        group: list[Job] = []
        for item in feed:
            if item is None:
                yield group
                group = []
                yield None
                continue
            position = len(self.steps)
            self.steps.append(item.step)
            if position % self.every != self.first:
                continue
            job = self._look(item)
            if job is None:
                watch(item.step, self.done[item.step].estimate, fresh=False)
                continue
            group.append(job)
            if len(group) == self.stack:
                yield group
                group = []
        yield group

    def _look(self, item: Item) -> Job | None:
        """Return what is to be done for a checkpoint: all, the readings alone, or nothing."""
        if self.folder is None or not self.folder.marked(item.step):
            return Job(item)
        try:
            weights, known = item.read()
        except InputError:
            return Job(item)  # which will say what is wrong
        mark, beside = self.order.mark(weights, known)
        kept = self.folder.find(item.step, mark)
        if kept is None:
            return Job(item)
        self.done[item.step] = kept
        if kept.readings != beside:
            return Job(item, estimate=False)
        self.folder.take(item.step)
        return None

    def _keep(self, outcome: Outcome) -> None:
        step, (mark, beside) = outcome.step, outcome.marks
        if outcome.reason:
            self.done.pop(step, None)
            self.skipped[step] = outcome.reason
            if self.folder is not None:
                self.folder.skip(step, outcome.reason)
            return
        metadata = outcome.metadata or {}
        if outcome.estimate is None:
            kept = self.done[step]._replace(metadata=metadata, readings=beside)
            if self.folder is not None:
                self.folder.annotate(step, mark, kept)
        else:
            kept = Kept(outcome.estimate, metadata, beside)
            if self.folder is not None:
                kept = self.folder.keep(step, mark, kept)
        self.done[step] = kept

    def finish(self, name: str, *, whole: bool) -> Trajectory:
        """Put the trajectory together, and write its table.

        Raises:
            InputError: there is nothing to put together.
        """
        if self.folder is not None and not whole:
            record = self.folder.record()
            assert record is not None
            self.folder.describe({**record, "steps": sorted(self.steps)})
        if not self.done:
            raise InputError(self._why_nothing())
        points = (Point(s, k.estimate, k.metadata) for s, k in sorted(self.done.items()))
        skipped = dict(sorted(self.skipped.items()))
        trajectory = Trajectory(name, self.order.settings, tuple(points), skipped)
        if self.folder is not None:
            if self.shard is not None:
                trajectory = Trajectory.load(self.folder.folder)
            with writable(self.folder.folder):
                trajectory.to_csv(self.folder.folder / "trajectory.csv")
        return trajectory

    def _why_nothing(self) -> str:
        if self.skipped:
            step = min(self.skipped)
            return f"no checkpoint could be estimated; step {step}: {self.skipped[step]}"
        if not self.steps:
            return "checkpoints is empty, or none came in time: give at least one"
        i, count = self.shard or (1, 1)
        return (
            f"shard {i}/{count} has no part in {len(self.steps)} checkpoints: give at most as many "
            "shards as there are checkpoints"
        )
