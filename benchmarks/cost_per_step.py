"""Cost per chain-step at equal work: this sampler, the other samplers, bare forward and backward.

Every tool takes the same plain SGLD steps (same step size, n_beta, gamma, batch size, float32, one
thread) on the same models and data, each in a process and an interpreter of its own; the tools
take turns. A cost is the slope (T(long) − T(short)) / (extra steps) over whole sampling calls,
the median over rounds; what a call costs besides, set-up and our audits, is listed apart.
Compilation happens in an untimed first call of each shape.

Bare and both devinterps run one chain after another, so one is measured, anew in every row. The
transformer stays at 4 chains: a step of 64 takes seconds. Batches are as each tool makes them:
drawn with replacement for each chain (ours, bare), reshuffled each epoch (devinterp 1), the first
epoch's replayed at no cost (devinterp 2 and canonical-interp, whose chains also share them).
devinterp 2 samples models of tokens only, which linear-500 is not.

``--check`` compares, instead, the mean rise of the loss along chains that start at a minimum: at
equal work it is the same number. Batches without replacement raise it, on few data, since a
batch's examples are those not fitted for longest; so devinterp 1 is also run with replacement,
where nothing is left to differ.

Machine: 2 cores of an AMD EPYC, torch 2.13 CPU
Date: 2026-11-23
Command: python benchmarks/cost_per_step.py --devinterp1 PYTHON --devinterp2 PYTHON --canonical
    PYTHON --ours '{"compile":"trace"}' --ours '{"compile":"inductor"}'
Result (microseconds a chain-step; ours replayed, and through inductor; the last columns are ratios
to the better of ours, and ours over bare):

    case             chains  bare   trace  inductor   devin 1   devin 2     canon   dev 1 dev 2 canon  bare
    mlp-64              1     250     233       160       733     1,199       485     4.6   7.5     3  0.64
    mlp-64              4     257     117        89       851       832       142     9.6   9.3   1.6  0.35
    mlp-64             16     411      95        62       799     1,360       152      13    22   2.5  0.15
    mlp-64             64     429     121        87     1,175     1,083       131      14    12   1.5  0.20
    mlp-512             1     498     507       460     3,575     1,334       680     7.8   2.9   1.5  0.92
    mlp-512             4     502     457       436     3,375     1,332       457     7.7   3.1     1  0.87
    mlp-512            16     494     440       371     2,964     1,236       429       8   3.3   1.2  0.75
    mlp-512            64     512     602       390     2,610     1,165       442     6.7     3   1.1  0.76
    linear-500          1     256     326       231     1,896         –       427     8.2     –   1.8  0.90
    linear-500          4     281     239       167     2,540         –       232      15     –   1.4  0.59
    linear-500         16     242     191       161     2,328         –       180      14     –   1.1  0.67
    linear-500         64     275     206       161     2,200         –       183      14     –   1.1  0.59
    transformer-512     1  29,972  31,183    31,807    32,618    32,631    40,009       1     1   1.3  1.04
    transformer-512     4  29,813  32,722    26,234    33,394    35,158    37,474     1.3   1.3   1.4  0.88

Ten times devinterp 1.3.2 is reached on the small models from 4 chains on (mlp-64, linear-500), 7 to
8 times on mlp-512; twice canonical-interp at 1 and 16 chains of mlp-64 only. On the transformer,
which is arithmetic alone, ours takes 1.04 and .88 times what forward and backward take.
"""  # noqa: E501

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

WORKERS = Path(__file__).parent / "workers"
CASES = {
    "mlp-64": (1, 4, 16, 64),
    "mlp-512": (1, 4, 16, 64),
    "linear-500": (1, 4, 16, 64),
    "transformer-512": (1, 4),
}
CHECKS = (("mlp-64", 32, 200), ("linear-500", 16, 200))
# Longer than an epoch, after which some rivals replay batches, and than a chunk of ours.
SHORT = {"transformer-512": 8}
SEQUENTIAL = ("bare", "devinterp1", "devinterp2")


class Worker:
    """A tool in a process of its own."""

    def __init__(self, label: str, tool: str, python: str, options: dict[str, Any]) -> None:
        self.label, self.tool, self.python, self.options = label, tool, python, options
        one_thread = dict.fromkeys(
            ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"), "1"
        )
        self.process = subprocess.Popen(
            [python, str(WORKERS / f"{tool}.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | one_thread,
        )

    def ask(self, case: str, chains: int, steps: int, **options: Any) -> dict[str, Any]:
        options = self.options | options
        request = json.dumps({"case": case, "chains": chains, "steps": steps, "options": options})
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(request, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            script = f"{self.python} {WORKERS / self.tool}.py"
            raise SystemExit(f"{self.label} died; to see why: echo '{request}' | {script}")
        return json.loads(answer)


class Measurement:
    """One tool on one case with so many chains: how many steps to take, and the times taken."""

    def __init__(self, worker: Worker, case: str, chains: int, seconds: float, clock: str) -> None:
        chains = 1 if worker.tool in SEQUENTIAL else chains
        self.worker, self.case, self.chains, self.clock = worker, case, chains, clock
        self.short = SHORT.get(case, 25)
        self.costs: list[float] = []
        self.fixed: list[float] = []
        first = self._time(self.short)
        self.refused = first is None
        if first is None:
            return
        # The difference has to stand out from what varies in a call's other costs.
        wanted, extra, spent = seconds + first / 3, self.short, 0.0
        while spent < wanted / 5 and extra < 3000:
            spent = self._time(self.short + extra) - first
            self.extra = max(4, round(extra * wanted / max(spent, wanted / 20)))
            extra *= 4

    def _time(self, steps: int) -> float | None:
        return self.worker.ask(self.case, self.chains, steps).get(self.clock)

    def round(self) -> None:
        if self.refused:
            return
        short, long = self._time(self.short), self._time(self.short + self.extra)
        step = (long - short) / self.extra
        self.costs.append(step / self.chains)
        self.fixed.append(short - self.short * step)

    @property
    def cost(self) -> float:
        """Seconds a chain-step; nan where the tool does not apply."""
        return statistics.median(self.costs or [float("nan")])

    @property
    def besides(self) -> float:
        """Seconds of a call besides its steps."""
        return statistics.median(self.fixed or [float("nan")])


def measure(
    workers: list[Worker], rounds: int, seconds: float, cases: dict[str, Any], clock: str
) -> None:
    labels = [worker.label for worker in workers]
    ours = next(i for i, worker in enumerate(workers) if worker.tool == "ours")
    ratios = [f"{label}/{labels[ours]}" for label in labels if label not in ("bare", labels[ours])]
    print("µs a chain-step, and ratios:\n")
    heads = [*labels, *ratios, f"{labels[ours]}/bare"]
    print(f"{'case':<16}{'chains':>6}" + "".join(f"{head:>{_width(head)}}" for head in heads))
    besides = []
    for case, chain_counts in cases.items():
        for chains in chain_counts:
            row = [Measurement(worker, case, chains, seconds, clock) for worker in workers]
            for _ in range(rounds):
                for measurement in row:
                    measurement.round()
            costs = [m.cost for m in row]
            values = [f"{1e6 * c:,.0f}" for c in costs]
            values += [f"{c / costs[ours]:.2f}" for i, c in enumerate(costs) if i not in (0, ours)]
            values.append(f"{costs[ours] / costs[0]:.2f}")
            columns = zip(heads, values, strict=True)
            line = "".join(f"{value:>{_width(head)}}" for head, value in columns)
            print(f"{case:<16}{chains:>6}" + line.replace("nan", "  –"), flush=True)
            besides.append((case, chains, [f"{m.besides:.2f}" for m in row]))
    print("\nSeconds a call besides its steps (bare, devinterp: of one chain):\n")
    print(f"{'case':<16}{'chains':>6}" + "".join(f"{label:>{_width(label)}}" for label in labels))
    for case, chains, values in besides:
        columns = zip(labels, values, strict=True)
        line = "".join(f"{value:>{_width(label)}}" for label, value in columns)
        print(f"{case:<16}{chains:>6}" + line.replace("nan", "  –"))


def check(workers: list[Worker]) -> None:
    print("n_beta times the mean rise of the loss along the chain, mean over chains ± its error:\n")
    runs = [(worker, {}) for worker in workers if worker.tool != "bare"]
    replaced = {"replacement": True}
    runs += [(worker, replaced) for worker in workers if worker.tool == "devinterp1"]
    for case, chains, steps in CHECKS:
        for worker, options in runs:
            rises = worker.ask(case, chains, steps, **options).get("rise")
            if rises is None:
                continue
            error = statistics.stdev(rises) / chains**0.5
            note = ", batches with replacement" if options else ""
            print(f"{case:<12}{statistics.mean(rises):8.1f} ± {error:.1f}  {worker.label}{note}")


def _width(head: str) -> int:
    return max(len(head), 6) + 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devinterp1", metavar="PYTHON", help="interpreter with devinterp 1.3.2")
    parser.add_argument("--devinterp2", metavar="PYTHON", help="interpreter with devinterp 2.0.1")
    parser.add_argument("--canonical", metavar="PYTHON", help="one with canonical-interp 0.2.7")
    parser.add_argument(
        "--ours",
        metavar="JSON",
        action="append",
        help="keyword arguments for llc.estimate; several times to compare several",
    )
    parser.add_argument("--quick", action="store_true", help="one round, 1 and 16 chains")
    parser.add_argument("--check", action="store_true", help="compare losses, not times")
    parser.add_argument("--cpu", action="store_true", help="processor time, on a busy machine")
    parser.add_argument("--case", action="append", choices=CASES, help="only these cases")
    given = parser.parse_args()
    workers = [Worker("bare", "bare", sys.executable, {})]
    for text in given.ours or ["{}"]:
        options = json.loads(text)
        label = " ".join(["ours", *map(str, options.values())])
        workers.append(Worker(label, "ours", sys.executable, options))
    for tool in ("devinterp1", "devinterp2", "canonical"):
        if getattr(given, tool):
            workers.append(Worker(tool, tool, getattr(given, tool), {}))
    clock = "cpu" if given.cpu else "seconds"
    cases = {case: CASES[case] for case in given.case or CASES}
    if given.check:
        check(workers)
    elif given.quick:
        few = {case: [c for c in counts if c in (1, 16)] for case, counts in cases.items()}
        measure(workers, 1, 0.5, few, clock)
    else:
        measure(workers, 3, 0.8, cases, clock)
    for worker in workers:
        worker.process.communicate()


if __name__ == "__main__":
    main()
