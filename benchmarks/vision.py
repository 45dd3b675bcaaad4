"""Pictures: a convolutional net and a residual net with batch norm, over training.

HEADER
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


def measure(out: Path, net: str, random_labels: bool) -> llc.Trajectory:
    """Train, trace, print a row a checkpoint; what is done already is read."""
    what = task(net, random_labels)
    place = out / (net + ("-random" if random_labels else ""))
    started = time.perf_counter(), time.process_time()
    train(place / "checkpoints", what)
    trained = time.perf_counter(), time.process_time()
    found = llc.trace(
        what, place / "checkpoints", out=place / "run", behavioural=True, budget=BUDGET,
        progress=True,
    )  # fmt: skip
    print(
        f"\n{what.name}: {found.points[0].estimate.dimension} weights, gamma "
        f"{found.settings.gamma:.3g}; trained in {trained[1] - started[1]:.0f} s of processor time, "
        f"traced in {time.process_time() - trained[1]:.0f} s"
    )
    print("step  train   test  test acc   LLC             null   virial  R-hat  gradients  verdict")
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
    save(figure, out / "vision.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/vision"))
    parser.add_argument("--only", choices=NETS, action="append", help="one of the nets")
    given = parser.parse_args()
    torch.set_num_threads(1)
    runs = [(net, labels) for net in given.only or NETS for labels in (False, True)]
    draw({run: measure(given.out, *run) for run in runs}, given.out)


if __name__ == "__main__":
    main()
