"""Pictures: a convolutional net and a residual net with batch norm, over training.

400 of scikit-learn's digits (8 × 8) as a Dataset's Subset, true labels and, as a control, the same
shuffled; Adam, 2,000 steps of 50. `llc.trace` at six checkpoints chooses nβ, γ, step, burn-in and
length; given are behavioural=True and a budget of 4,000 gradients a checkpoint. The control has the
γ chosen for true labels, 66.3 and 515, without which the numbers could not be compared. Batch
norm's statistics are each checkpoint's own.

Machine: one core of an AMD EPYC, shared with about ten other jobs, torch 2.13 CPU
Date: 2026-11-23
Command: python benchmarks/vision.py
(in two processes, one a net; a checkpoint takes 5 to 20 s of processor time, training 4 to 10 s)
A budget did not cover the choice of γ then: with gamma=66.3 and 515 given, the numbers are these.
Result, of 24 estimates 15 ok, 9 warn, none fail:

    digits, conv: 1898 weights, gamma 66.3; traced in 165 s, γ's choice included
    step  train   test  test acc   LLC             null   virial  R-hat  gradients  verdict
       5  2.276   2.28     0.120     1.75 ± 0.04      3.16   1.000  1.008       1912  warn *
      15  2.197   2.22     0.177     2.19 ± 0.05      4.29   1.000  1.013       1588  warn *
      50  1.058   1.15     0.801     8.76 ± 0.15      33.2   1.000  1.020       1156  ok
     150  0.138   0.29     0.903     8.36 ± 0.18      64.6   1.001  1.034       1372  ok
     500  0.008   0.19     0.941     5.68 ± 0.12      69.7   0.998  1.007       1588  ok
    2000  0.000   0.22     0.944     3.56 ± 0.08      66.6   1.001  1.003       2668  ok

    digits, conv, random labels: 1898 weights, gamma 66.3; traced in 33 s
       5  2.302   2.30     0.102     1.56 ± 0.04      2.75   1.000  1.009       1912  warn *
      15  2.295   2.30     0.100     1.64 ± 0.04      3.06   1.000  1.006       1912  warn *
      50  2.268   2.31     0.102     2.28 ± 0.05      5.47   1.000  1.007       1912  ok
     150  2.103   2.38     0.110     6.50 ± 0.13      20.2   1.001  1.030       1372  ok
     500  1.438   2.99     0.094    24.03 ± 0.36      95.2   0.997  1.040       1588  ok
    2000  0.361   6.42     0.085    55.43 ± 0.66       266   0.999  1.046       2412  ok

    digits, resnet: 5090 weights, gamma 515; traced in 303 s, γ's choice included
       5  2.311   2.31     0.105     0.08 ± 0.00    0.0797   1.000  1.000       1588  warn *
      15  2.243   2.25     0.167     0.24 ± 0.01     0.253   0.999  1.004       2236  warn *
      50  0.536   0.71     0.895    14.83 ± 0.22      39.4   1.000  1.016       1372  ok
     150  0.026   0.20     0.945    18.01 ± 0.36       123   0.998  1.038       3856  ok
     500  0.002   0.15     0.952    16.33 ± 0.33       191   0.998  1.030       3856  ok
    2000  0.000   0.16     0.954    15.32 ± 0.37       277   1.001  1.020       3208  ok

    digits, resnet, random labels: 5090 weights, gamma 515; traced in 100 s
       5  2.309   2.31     0.101     0.09 ± 0.00    0.0826   1.000  1.001       1588  warn *
      15  2.299   2.31     0.101     0.22 ± 0.01     0.233   0.999  1.006       2236  warn *
      50  1.969   2.36     0.105     7.65 ± 0.16      33.3   1.001  1.038       3208  ok
     150  0.729   3.49     0.110    73.42 ± 0.44       344   0.998  1.025       2412  ok
     500  0.008   6.58     0.123   140.97 ± 0.98       807   1.000  1.027       3384  ok
    2000  0.000   8.72     0.107   114.10 ± 0.94       893   0.997  1.022       4304  warn **

    * prior_dominated: the number is the loss's flatness at radius 1/√γ; ** cut_short

Memorising costs more: at the end 55.4 against 3.6, and 114 against 15.3 (ratios of 15.6 and 7.4).
The null goes the same way by less, 266 against 67 and 893 against 277: of the ratios of 16 and 7
the steepness at radius 1/√γ alone would give 4 and 3. The convolutional net, at a loss of 0.36, has
not memorised all of its labels.

With nothing given at all, rlct estimate CKPT --task benchmarks/vision.py:conv at step 2000, true
labels as targets: 11.9 ± 0.3 at gamma 13.8, virial 1.001, R-hat 1.037, null 650, verdict ok,
15,936 gradients, 50 s of processor time. dLLC/d ln gamma is -5.4: at γ = 66.3 it is 3.6, no
contradiction but another scale.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

import llc
from llc.checkpoints import save_checkpoint

TRAINED_ON = 400
SAVE_AT = (5, 15, 50, 150, 500, 2000)
BATCH, LEARNING_RATE = 50, 3e-3
BUDGET = 4000


class Digits(Dataset):
    """The 1,797 written digits of scikit-learn, 8 × 8, as pairs (image, int)."""

    def __init__(self, random_labels: bool = False) -> None:
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            sys.exit("the digits are in scikit-learn: pip install scikit-learn")
        found = load_digits()
        self.images = torch.tensor(found.images, dtype=torch.float32).unsqueeze(1) / 16
        self.labels = torch.tensor(found.target)
        if random_labels:
            order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(1))
            self.labels = self.labels[order]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])


class Block(nn.Module):
    """Two convolutions with batch norm beside a shortcut (He et al. 2016, arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.shortcut(x) + self.second_norm(self.second(y)))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def residual() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        Block(8, 8, 1), Block(8, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


NETS = {"conv": convolutional, "resnet": residual}
NAMES = {"conv": "convolutional net", "resnet": "residual net, batch norm"}


def task(net: str, random_labels: bool = False) -> llc.Task:
    """The task on 400 digits, the net freshly initialised; 1,397 more to test on."""
    digits = Digits(random_labels)
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0)).tolist()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = NETS[net]()
    return llc.Task(
        model, Subset(digits, order[:TRAINED_ON]), "cross_entropy",
        name=f"digits, {net}" + (", random labels" if random_labels else ""),
        readings={"test": Subset(digits, order[TRAINED_ON:])},
    )  # fmt: skip


def conv() -> llc.Task:
    return task("conv")


def resnet() -> llc.Task:
    return task("resnet")


def train(folder: Path, what: llc.Task) -> None:
    """Train by Adam and save checkpoints, batch norm's statistics with them."""
    if len(list(folder.glob("step_*"))) == len(SAVE_AT):
        return
    model, (images, labels) = what.model, what.data
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    pairs = torch.utils.data.TensorDataset(images, labels)
    step = 0
    while step < SAVE_AT[-1]:
        for x, y in DataLoader(pairs, BATCH, shuffle=True, generator=generator):
            model.train()
            optimiser.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimiser.step()
            step += 1
            if step in SAVE_AT:
                model.eval()
                with torch.no_grad():
                    loss = F.cross_entropy(model(images), labels).item()
                save_checkpoint(folder, step, model.state_dict(), {"train_loss": loss})


def measure(
    out: Path, net: str, random_labels: bool = False, gamma: float | None = None
) -> llc.Trajectory:
    """Train, trace, print a row a checkpoint; what is done already is read."""
    what = task(net, random_labels)
    place = out / (net + ("-random" if random_labels else ""))
    started = time.perf_counter(), time.process_time()
    train(place / "checkpoints", what)
    trained = time.perf_counter(), time.process_time()
    found = llc.trace(
        what, place / "checkpoints", out=place / "run", gamma=gamma, behavioural=True,
        budget=BUDGET, progress=True,
    )  # fmt: skip
    print(
        f"\n{what.name}: {found.points[0].estimate.dimension} weights, gamma "
        f"{found.settings.gamma:.3g}; trained in {trained[1] - started[1]:.0f} s of processor "
        f"time, traced in {time.process_time() - trained[1]:.0f} s"
    )
    print(f"step  train   test  test acc   LLC{'null':>17}   virial  R-hat  gradients  verdict")
    for point in found.points:
        e, known = point.estimate, point.metadata
        reasons = ", ".join(reason.name.lower() for reason in e.verdict.reasons)
        print(
            f"{point.step:>4}{known['train_loss']:>7.3f}{known['test_loss']:>7.2f}"
            f"{known['test_accuracy']:>10.3f}{e.llc:>9.2f} ± {e.mcse:<6.2f}{e.null:>8.3g}"
            f"{e.virial:>8.3f}{e.rhat:>7.3f}{e.gradient_evaluations:>11}  {e.verdict.status}"
            f"{f' ({reasons})' if reasons else ''}",
            flush=True,
        )
    return found


def draw(found: dict[tuple[str, bool], llc.Trajectory], out: Path) -> None:
    """Losses above, LLCs below, a column a net; hollow where the verdict is not ok."""
    from llc.plot.figures import COLOURS, PAGE, plain_ticks, save, sheet

    nets = list(dict.fromkeys(net for net, _ in found))
    caption = "Digits: loss and LLC of two nets over training, true and random labels."
    with sheet(PAGE, 3.6, caption) as figure:
        axes = figure.subplots(2, len(nets), sharex=True, squeeze=False)
        for (net, labels), run in found.items():
            losses, llcs = axes[:, nets.index(net)]
            colour = COLOURS["second" if labels else "main"]
            what = "random labels" if labels else "true labels"
            steps = [point.step for point in run.points]
            loss = [point.metadata["train_loss"] for point in run.points]
            losses.plot(steps, loss, "-", color=colour, label=what)
            for point in run.points:
                e = point.estimate
                fine = e.verdict.status == "ok"
                llcs.errorbar(
                    point.step, e.llc, 1.645 * e.mcse, fmt="o", ms=4, color=colour,
                    mfc=colour if fine else "white",
                )  # fmt: skip
            llcs.plot(steps, run.llc, lw=0.8, color=colour)
            null = [point.estimate.null for point in run.points]
            llcs.plot(steps, null, ":", lw=0.8, color=colour)
            losses.set_title(NAMES[net])
            llcs.set(xscale="log", yscale="log", xlabel="training step")
            plain_ticks(llcs.xaxis)
        axes[0, 0].set_ylabel("training loss (nats)")
        axes[1, 0].set_ylabel(r"LLC $\hat\lambda$ (90 %)")
        axes[0, 0].legend()
        axes[1, 0].plot([], [], ":", color=COLOURS["muted"], label="prior-only null")
        axes[1, 0].plot([], [], "ko", ms=4, mfc="white", lw=0, label="verdict not ok")
        axes[1, 0].legend()
    save(figure, out / "vision.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/vision"))
    parser.add_argument("--only", choices=NETS, action="append", help="one of the nets")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[tuple[str, bool], llc.Trajectory] = {}
    for net in given.only or NETS:
        found[net, False] = measure(given.out, net)
        # Numbers at different γ are not comparable: the control has the γ chosen for true labels.
        found[net, True] = measure(given.out, net, True, found[net, False].settings.gamma)
    draw(found, given.out)


if __name__ == "__main__":
    main()
