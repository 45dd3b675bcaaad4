"""Capacity: parameters to memory, by llc.memory's own estimate; for docs/scaling.md.

One chain of two hidden layers at batch 64: the estimate that `rlct` announces before a run, which
benchmarks/memory_and_scaling.py holds against measured memory (within 12 % from 1e6 parameters on).
Its vectors grow as parameters, 15 of four bytes each; beyond 1e7 only they are counted, and what a
gradient keeps comes on top. Sharded, all 15 are shared out by ranks; the gathered block of FSDP
comes on top. No memory of a sharded run has been measured yet.

Machine: 2 cores of an AMD EPYC, torch 2.13 CPU
Date: 2026-11-23
Command: python benchmarks/scaling.py
Result:

    parameters   a chain   sharded by 8, a rank
         1e+05   0.0068 GB  0.00075 GB
         1e+06   0.0626 GB   0.0075 GB
         1e+07    0.608 GB    0.075 GB
         1e+08        6 GB     0.75 GB
         1e+09       60 GB      7.5 GB
         1e+10      600 GB       75 GB
"""

import torch
from torch import nn

import llc
from llc.memory import VECTORS, chain_bytes
from llc.objective import Objective

BATCH = 64
WIDTH_OF = {1e5: 220, 1e6: 704, 1e7: 2233}


def announced(width: int) -> tuple[int, float]:
    """Parameters, and bytes of one chain."""
    net = nn.Sequential(
        nn.Linear(10, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10),
    )  # fmt: skip
    task = llc.Task(net, (torch.randn(1000, 10), torch.randn(1000, 10)), "mse")
    vectors, kept = chain_bytes(Objective(task), BATCH)
    return sum(p.numel() for p in net.parameters()), vectors + 2 * kept


def main() -> None:
    print("    parameters   a chain   sharded by 8, a rank")
    for size in (1e5, 1e6, 1e7, 1e8, 1e9, 1e10):
        whole = VECTORS * 4 * size
        if size in WIDTH_OF:
            count, whole = announced(WIDTH_OF[size])
            assert 0.7 < count / size < 1.4
        print(f"    {size:10.0e} {whole / 1e9:8.3g} GB {VECTORS * 4 * size / 8 / 1e9:8.3g} GB")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
