"""A script for one rank of several: sharded estimates of small models, as JSON by the first."""

import json
import os
import sys
from pathlib import Path

import torch
from torch import distributed as dist
from torch import nn

import llc.sharded

SIZE, INPUTS, OUTPUTS = 60, 5, 3
GIVEN = {"gamma": 4.0, "step_size": 0.05, "draws": 12, "burn_in": 4, "chains": 2}


def network(dtype=torch.float64):
    torch.manual_seed(0)
    layers = nn.Linear(INPUTS, 7), nn.Tanh(), nn.Linear(7, OUTPUTS)
    return nn.Sequential(*layers).to(dtype)


def line(dtype=torch.float64):
    torch.manual_seed(1)
    return nn.Linear(INPUTS, OUTPUTS, bias=False).to(dtype)


def data(model, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(SIZE, INPUTS, generator=generator).to(dtype)
    return inputs, model(inputs).detach()


def told(found):
    return {
        "llc": found.llc,
        "mcse": found.mcse,
        "null": found.null,
        "virial": found.virial,
        "stiffness": found.stiffness,
        "heat": found.heat,
        "shift": found.gradient_shift,
        "baseline": found.baseline,
        "tensors": found.tensor_virials,
        "trace": found.trace.tolist(),
        "virial_trace": found.virial_trace.tolist(),
        "burn_in": found.burn_in_trace.tolist(),
        "verdict": [reason.name for reason in found.verdict.reasons],
    }


def run(case, folder=None):
    model = network()
    given = (model, data(model), "mse")
    if case == "all":
        return told(llc.sharded.estimate(*given, **GIVEN))
    if case == "batches":
        return told(llc.sharded.estimate(*given, **GIVEN, batch_size=7, at_once=2))
    if case == "behavioural":
        labels = torch.arange(SIZE) % OUTPUTS
        pair = (given[1][0], labels)
        return told(llc.sharded.estimate(model, pair, "cross_entropy", behavioural=True, **GIVEN))
    if case == "single":
        model = network(torch.float32)
        pair = data(model, torch.float32)
        return told(llc.sharded.estimate(model, pair, "mse", **GIVEN))
    if case == "kept":
        return kept(folder, given)
    if case == "borrowed":
        return borrowed(given)
    assert case == "exact"
    model = line()
    settings = {"gamma": 4.0, "step_size": 0.15, "draws": 1200, "burn_in": 100, "chains": 2}
    return told(llc.sharded.estimate(model, data(model), "mse", **settings))


def kept(folder, given):
    seen = []
    settings = {**GIVEN, "out": folder, "progress": lambda *now: seen.append(now)}
    first = told(llc.sharded.estimate(*given, **{**settings, "chains": 1}))
    first_seen = len(seen)
    second = told(llc.sharded.estimate(*given, **settings))
    second_seen = len(seen) - first_seen
    seen.clear()
    llc.sharded.estimate(*given, **{**settings, "seed": 1})
    return {"first": first, "second": second, "looks": [first_seen, second_seen, len(seen)]}


def borrowed(given):
    """A model that was sharded by the caller is as it was, also after an error in the middle."""
    model = llc.sharded.shard(given[0])
    model.train()
    model[1].eval()
    before = [p.full_tensor().detach().clone() for p in model.parameters()]
    model(given[1][0]).sum().backward()
    gradients = [p.grad for p in model.parameters()]

    calls = []

    def stops(model, batch):
        calls.append(1)
        if len(calls) > 40:
            raise KeyboardInterrupt
        return (model(batch[0]) - batch[1]).square().mean(1)

    found = told(llc.sharded.estimate(model, *given[1:], **GIVEN))
    stopped = False
    try:
        llc.sharded.estimate(model, given[1], batch_loss=stops, **GIVEN)
    except KeyboardInterrupt:
        stopped = True
    after = [p.full_tensor() for p in model.parameters()]
    same = all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    same &= all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    modes = [module.training for module in model.modules()]
    return {"found": found, "same": same, "modes": modes, "stopped": stopped}


if __name__ == "__main__":
    torch.set_num_threads(1)
    # torchrun says in the environment who is who; without it a file does.
    meeting = sys.argv[4] if len(sys.argv) > 4 else "env://"
    rank, ranks = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
    dist.init_process_group("gloo", meeting, rank=rank, world_size=ranks)
    results = {case: run(case, Path(sys.argv[3])) for case in sys.argv[2].split(",")}
    if dist.get_rank() == 0:
        Path(sys.argv[1]).write_text(json.dumps(results))
    dist.barrier()
    # Gloo's threads may outlive its group, and abort a process that ends in good order: seen once
    # on a loaded machine, after all was written.
    os._exit(0)
