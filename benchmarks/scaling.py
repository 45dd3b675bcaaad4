"""Capacity: parameters to memory and time of one chain, plain and sharded over one and two ranks.

Each line is a process, or two, of its own: a network of eight square layers, 64 examples, all in
every gradient, kinetic Langevin, one chain. Memory is the highest resident set during the estimate
less what the process held before the model was built, of the larger rank; beside it the same in
vectors of four bytes a parameter, and what `llc.memory` announces for a plain chain. Processes are
started with MALLOC_MMAP_THRESHOLD_=65536, so that freed memory is given back. Time is
processor time of a step in one thread: of a long run less that of a short one, so that no fixed
cost is in it, and other programs on the machine count little; with two ranks, of one of them.

Machine: 2 cores of an AMD EPYC, torch 2.13 CPU, gloo
Date: 2026-11-23
Command: python benchmarks/scaling.py
Result (the last size in a start of its own, beside others):

    parameters  what               memory  vectors  announced  a step, one thread
      1.01e+05  plain               17 MiB     43.5      9 MiB       4.8 ms
      1.01e+05  sharded, 1 rank     13 MiB     32.4                 11.2 ms
      1.01e+05  sharded, 2 ranks    12 MiB     31.1                 20.7 ms
      1.01e+06  plain               82 MiB     21.3     79 MiB      44.6 ms
      1.01e+06  sharded, 1 rank     76 MiB     19.7                 65.1 ms
      1.01e+06  sharded, 2 ranks    43 MiB     11.2                 69.1 ms
         4e+06  plain              300 MiB     19.6    311 MiB     130.2 ms
         4e+06  sharded, 1 rank    294 MiB     19.2                288.0 ms
         4e+06  sharded, 2 ranks   149 MiB      9.8                252.4 ms
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

import llc

LAYERS, EXAMPLES = 8, 64
STEPS_OF = {112: 400, 354: 40, 707: 12}
GIVEN = {"gamma": 1000.0, "step_size": 1e-4, "burn_in": 1, "chains": 1, "n_beta": 10.0}
MIB = 2**20


def network(width: int) -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    """Eight square layers, and data that they fit."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(LAYERS):
        layers += [nn.Linear(width, width), nn.ReLU()]
    net = nn.Sequential(*layers[:-1])
    inputs = torch.randn(EXAMPLES, width)
    with torch.no_grad():
        return net, (inputs, net(inputs))


def measured(kind: str, width: int) -> dict[str, float]:
    """In a process of its own: memory and time of the estimate."""
    torch.set_num_threads(1)
    if kind == "sharded":
        from llc import sharded

        torch.distributed.init_process_group("gloo")
        small, data = network(8)
        sharded.estimate(sharded.shard(small), data, "mse", **GIVEN, draws=4)
    else:
        small, data = network(8)
        llc.estimate(small, data, "mse", **GIVEN, draws=4, sampler="kinetic")
    before = peak()
    net, data = network(width)
    found = {"parameters": sum(p.numel() for p in net.parameters())}
    spent = []
    for draws in (4, 4 + STEPS_OF[width]):
        began = time.process_time()
        if kind == "sharded":
            net = sharded.shard(net) if not spent else net
            sharded.estimate(net, data, "mse", **GIVEN, draws=draws)
        else:
            llc.estimate(net, data, "mse", **GIVEN, draws=draws, sampler="kinetic")
        spent.append(time.process_time() - began)
    found["peak"], found["step"] = peak() - before, (spent[1] - spent[0]) / STEPS_OF[width]
    if kind == "sharded":
        everyone: list[dict[str, float]] = [{}] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(everyone, found)
        torch.distributed.destroy_process_group()
        found = {name: max(each[name] for each in everyone) for name in found}
    return found


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def started(kind: str, width: int, ranks: int) -> dict[str, float]:
    """Start the processes, and read what the first says."""
    with tempfile.TemporaryDirectory() as folder:
        shared = {
            "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29573",
            "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536",
        }  # fmt: skip
        out = Path(folder, "found.json")
        running = [
            subprocess.Popen(
                [sys.executable, __file__, kind, str(width), str(out)],
                env={**os.environ, **shared, "RANK": str(rank)},
            )
            for rank in range(ranks)
        ]
        for each in running:
            if each.wait() != 0:
                raise SystemExit(f"{kind} on {ranks} ranks failed")
        return json.loads(out.read_text())


def announced(width: int) -> float:
    """Bytes of one plain chain, as `rlct` announces them."""
    from llc.memory import SETUP, VECTORS, chain_bytes
    from llc.objective import Objective

    net, data = network(width)
    vectors, kept = chain_bytes(Objective(llc.Task(net, data, "mse")), EXAMPLES)
    return max(1, SETUP / VECTORS) * vectors + 2 * kept


def main() -> None:
    print("    parameters  what               memory  vectors  announced  a step, one thread")
    for width in STEPS_OF:
        for kind, ranks in (("plain", 1), ("sharded", 1), ("sharded", 2)):
            found = started(kind, width, ranks)
            count = found["parameters"]
            told = f"{announced(width) / MIB:6.0f} MiB" if kind == "plain" else " " * 10
            label = kind if kind == "plain" else f"{kind}, {ranks} rank{'s' * (ranks > 1)}"
            print(
                f"    {count:10.3g}  {label:16s} {found['peak'] / MIB:5.0f} MiB "
                f"{found['peak'] / 4 / count:8.1f} {told} {1e3 * found['step']:9.1f} ms",
                flush=True,
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        result = measured(sys.argv[1], int(sys.argv[2]))
        if os.environ["RANK"] == "0":
            Path(sys.argv[3]).write_text(json.dumps(result))
    else:
        main()
