"""A script for ``mpiexec -n 3 python -m mpi4py.futures``: the recipe of docs/scaling.md."""

import json
import sys
from pathlib import Path

from test_trajectory import trace

if __name__ == "__main__":
    from mpi4py.futures import MPIPoolExecutor

    folder = Path(sys.argv[1])
    with MPIPoolExecutor() as pool:
        pool.bootup()
        found = trace(out=folder / "there", executor=pool)
        told = {
            "steps": found.steps.tolist(),
            "llc": [point.estimate.llc for point in found.points],
            "workers": pool.num_workers,
        }
    (folder / "told.json").write_text(json.dumps(told))
