"""Against devinterp 2 on a GPT-NeoX of ten million weights: time, memory, disk, the same LLC.

Both run the same plain SGLD (same nβ, γ, step, batch size, chains, draws, float32, one thread) on the
same trained model and sequences, each in a process of its own, by turns. A step's cost is taken
within the call: from one gradient to the next (theirs), over all draws (ours). Each draws its batches
in its own way; ``--parity`` gives ours their batches and their noise, and compares losses step by
step. Memory is the peak resident set; disk is what `sample` writes, and what `Estimate.save` does.

Machine: 2 cores of an AMD EPYC (Zen 5), torch 2.13 CPU, transformers 5.23, devinterp 2.0.1; shared
by a dozen processes meanwhile, wherefore CPU seconds count, and the clock's do not
Date: 2026-11-23
Command: python benchmarks/devinterp_pair.py FOLDER --train 300 --pairs 3 --sequences 64 --chains 1
    --burn-in 1 --draws 6
Result: trained to 4.53 nats a token on held-out text; then

    0   ours  LLC 2.34 ± 0.54  step 1.802  step_wall 39.59  call 38.93  peak 952.5  above 671.7  disk 8905
    0 theirs  LLC 2.03 ± 4.84  step 2.795  step_wall 13.45  call 22.24  peak 1734  above 1267  disk 2.163e+05
    1   ours  LLC 2.34 ± 0.54  step 1.77  step_wall 7.342  call 38.51  peak 967.7  above 686.9  disk 8905
    1 theirs  LLC 2.03 ± 4.84  step 2.821  step_wall 10.4  call 22.46  peak 1725  above 1258  disk 2.163e+05
    2   ours  LLC 2.34 ± 0.54  step 1.773  step_wall 30.07  call 38.33  peak 944.2  above 663.5  disk 8905
    2 theirs  LLC 2.03 ± 4.84  step 2.769  step_wall 29.94  call 22  peak 1750  above 1283  disk 2.163e+05
      CPU s a chain-step: ours/theirs 0.64 (0.628–0.645)
     wall s a chain-step: ours/theirs 1 (0.706–2.94)
          CPU s the call: ours/theirs 1.74 (1.71–1.75)
                 peak MB: ours/theirs 0.549 (0.54–0.561)
   peak MB above imports: ours/theirs 0.53 (0.517–0.546)
           bytes written: ours/theirs 0.0412 (0.0412–0.0412)

A call of seven steps is mostly what ours does once a call (26 s: losses at w*, curvature at the end,
prior-only null).

Command: python benchmarks/devinterp_pair.py FOLDER --pairs 1 --sequences 64 --chains 1 --burn-in 10
    --draws 90  (beside two other processes)
Result:

    0   ours  LLC 25.92 ± 6.74  step 1.597  step_wall 1.662  call 189.1  peak 993.3  above 712.9  disk 1.025e+04
    0 theirs  LLC 27.08 ± 8.67  step 2.833  step_wall 3.147  call 286  peak 1827  above 1360  disk 2.818e+06
      CPU s a chain-step: ours/theirs 0.564
     wall s a chain-step: ours/theirs 0.528
          CPU s the call: ours/theirs 0.661
                 peak MB: ours/theirs 0.544
   peak MB above imports: ours/theirs 0.524
           bytes written: ours/theirs 0.00364

Command: python benchmarks/devinterp_pair.py FOLDER --parity --sequences 32 --draws 8
Result: furthest apart 2.6e-07 over 8 steps of 10,019,840 weights
"""  # noqa: E501

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent / "workers"))
import neox

LAW = {"n_beta": 30.0, "gamma": 300.0}
STEP, BATCH, SEED = 1e-4, 32, 7
FEW = 4


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def weight_on_disk(place):
    return sum(f.stat().st_size for f in Path(place).rglob("*") if f.is_file())


def load(folder, sequences):
    from transformers import GPTNeoXForCausalLM

    model = GPTNeoXForCausalLM.from_pretrained(folder / "model").eval()
    return model, torch.from_numpy(np.load(folder / "tokens.npy")[:sequences])


def ours(folder, out, o):
    """`llc.estimate`; CPU seconds a chain-step over production."""
    import transformers  # noqa: F401

    import llc
    from llc.language import huggingface

    llc.estimate  # noqa: B018  imports what a run needs
    imported = peak()
    model, rows = load(folder, o.sequences)
    stamps = {}

    def report(phase, done, total):
        if done == total:
            stamps[phase] = time.process_time(), time.perf_counter()

    began = time.process_time(), time.perf_counter()
    estimate = llc.estimate(
        huggingface.task(model, rows), **LAW, sampler="sgld", step_size=STEP, chains=o.chains,
        burn_in=o.burn_in, draws=o.draws, batch_size=BATCH, seed=SEED, progress=report,
    )  # fmt: skip
    call = np.subtract((time.process_time(), time.perf_counter()), began)
    steady = np.subtract(stamps["draws"], stamps["burn-in"]) / (o.draws * o.chains)
    estimate.save(out / "estimate.json")
    return {
        "llc": estimate.llc, "error": estimate.mcse, "step": steady[0], "step_wall": steady[1],
        "call": call[0], "call_wall": call[1], "imported": imported, "execution":
        estimate.execution, "status": estimate.verdict.status,
    }  # fmt: skip


def theirs(folder, out, o):
    """devinterp's `sample`; CPU seconds from one gradient to the next."""
    from datasets import Dataset
    from devinterp.slt.lm_loss import compute_per_token_loss
    from devinterp.slt.sampling import sample

    from llc import interop

    imported = peak()
    model, rows = load(folder, o.sequences)
    data = Dataset.from_dict({"input_ids": rows.tolist()}).with_format("torch")
    stamps = []

    def loss(model, ids):
        if torch.is_grad_enabled():
            stamps.append((time.process_time(), time.perf_counter()))
        return compute_per_token_loss(model, ids)

    began = time.process_time(), time.perf_counter()
    tree = sample(
        model, data, {}, lr=STEP, n_beta=LAW["n_beta"], localization=LAW["gamma"], device="cpu",
        num_chains=o.chains, num_draws=o.draws, num_burnin_steps=o.burn_in, batch_size=BATCH,
        num_init_loss_batches=o.sequences // BATCH, init_seed=SEED, loss_fn=loss,
        match_sampling_input_ids_across_chains=False, output_path=out / "samples.zarr",
    )  # fmt: skip
    call = np.subtract((time.process_time(), time.perf_counter()), began)
    chains = np.split(np.array(stamps), o.chains)
    steady = np.concatenate([np.diff(c, axis=0) for c in chains]).mean(0)
    read = interop.TokenDraws(tree)
    return {
        "llc": read.llc, "error": float(np.hypot(read.mcse, read.baseline_se)), "step": steady[0],
        "step_wall": steady[1], "call": call[0], "call_wall": call[1], "imported": imported,
    }  # fmt: skip


def child(which, folder, o):
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        found = (ours if which == "ours" else theirs)(folder, Path(place), o)
        found["disk"] = weight_on_disk(place)
    found["peak"] = peak()
    print("RESULT " + json.dumps(found))


def run(which, o):
    """One run in a process of its own."""
    command = [sys.executable, __file__, str(o.folder), "--child", which]
    for name in ("sequences", "chains", "burn_in", "draws"):
        command += [f"--{name.replace('_', '-')}", str(getattr(o, name))]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise SystemExit(done.stdout + done.stderr)
    found = json.loads(lines[0].removeprefix("RESULT "))
    found["above"] = found["peak"] - found["imported"]
    return found


SHOWN = {
    "step": "CPU s a chain-step", "step_wall": "wall s a chain-step", "call": "CPU s the call",
    "peak": "peak MB", "above": "peak MB above imports", "disk": "bytes written",
}  # fmt: skip


def pairs(o):
    """Ours and theirs in turns; ratios ours to theirs, of each pair."""
    found = {"ours": [], "theirs": []}
    for number in range(o.pairs):
        for which in ("ours", "theirs"):
            found[which].append(run(which, o))
            f = found[which][-1]
            said = "  ".join(f"{name} {f[name]:.4g}" for name in SHOWN)
            print(f"{number} {which:>6}  LLC {f['llc']:.2f} ± {f['error']:.2f}  {said}", flush=True)
    print(found["ours"][0]["execution"])
    for name, words in SHOWN.items():
        ratios = [a[name] / b[name] for a, b in zip(found["ours"], found["theirs"], strict=True)]
        print(
            f"{words:>24}: ours/theirs {statistics.median(ratios):.3g} "
            f"({min(ratios):.3g}–{max(ratios):.3g})"
        )


def parity(o):
    """Ours on devinterp's own batches and noise: loss by loss the same path."""
    from datasets import Dataset
    from devinterp.slt.sampling import sample

    from llc.language import huggingface
    from llc.posterior import Posterior
    from llc.sampling.blocks import in_blocks
    from llc.sampling.kernel import Tuning
    from llc.sampling.schemes import scheme_for
    from llc.surface import LossSurface

    torch.set_num_threads(1)
    model, rows = load(o.folder, o.sequences)
    data = Dataset.from_dict({"input_ids": rows.tolist()}).with_format("torch")
    with tempfile.TemporaryDirectory() as place:
        tree = sample(
            model, data, {}, lr=STEP, n_beta=LAW["n_beta"], localization=LAW["gamma"], device="cpu",
            num_chains=1, num_draws=o.draws, batch_size=FEW, num_init_loss_batches=1,
            init_seed=SEED, output_path=Path(place) / "s.zarr",
        )  # fmt: skip
        losses = tree["sampling_loss_micro"].values[0].astype(float).mean((1, 2))
        ids = tree["sampling_input_ids_micro"].values[0]
    places = {tuple(row): number for number, row in enumerate(rows.tolist())}
    batches = torch.tensor([[places[tuple(row)] for row in step] for step in ids.tolist()])
    surface = LossSurface(huggingface.task(model, rows))
    assert surface.layout.names == tuple(f"model.module.{n}" for n, _ in model.named_parameters())
    surface.plan(1, FEW)
    posterior = Posterior(surface, **LAW)
    tuning = Tuning(LAW["n_beta"], LAW["gamma"], STEP)
    kernel = in_blocks(posterior, scheme_for("sgld"), tuning)
    state = kernel.init(posterior.start(1))
    table = surface.whole_batch()[1]
    torch.manual_seed(SEED)
    furthest = 0.0
    for batch, expected in zip(batches, losses, strict=True):
        kick = torch.cat(
            [torch.normal(0.0, 1.0, size=s).reshape(-1) for s in surface.layout.shapes]
        )
        rest = iter_of(kick)
        state, info = kernel.step(state, batch[None], rest)
        found = float(info.rise) / LAW["n_beta"] + float(table[batch].double().mean())
        furthest = max(furthest, abs(found - expected))
        print(f"  loss ours {found:.6f}, theirs {expected:.6f}", flush=True)
    print(
        f"furthest apart {furthest:.1e} over {len(losses)} steps of {posterior.dimension:,} weights"
    )


def iter_of(kick):
    """What fills blocks with consecutive numbers of a vector."""
    place = 0

    def fill(_chain, out):
        nonlocal place
        out.copy_(kick[place : place + out.numel()].reshape(out.shape))
        place += out.numel()

    return fill


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the trained model; made with --train")
    parser.add_argument("--train", type=int, default=0, help="steps to train first")
    parser.add_argument("--parity", action="store_true", help="the same path, instead of pairs")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--sequences", type=int, default=256)
    parser.add_argument("--chains", type=int, default=2)
    parser.add_argument("--burn-in", type=int, default=4)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--child", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.child:
        child(o.child, o.folder, o)
        return
    if o.train:
        torch.set_num_threads(1)
        neox.train(o.folder, o.train)
    (parity if o.parity else pairs)(o)


if __name__ == "__main__":
    main()
