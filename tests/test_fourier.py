"""Fourier measures against logits whose frequencies are known."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from llc import plot
from llc.cli.main import main
from llc.errors import InputError
from llc.task import Task
from llc.tasks import fourier, modular_addition
from llc.trajectory.circuits import Circuits, circuits

PRIME = 13


class Waves(torch.nn.Module):
    """Logits Σ_k A_k cos(w_k(a + b − c)) + offsets of c, with the A_k as its parameters."""

    def __init__(self, amplitudes, offset=0.0):
        super().__init__()
        self.amplitudes = torch.nn.Parameter(torch.tensor(amplitudes, dtype=torch.float64))
        self.register_buffer("offset", offset * torch.linspace(-1, 1, PRIME).double())

    def forward(self, pairs):
        off = pairs.sum(1, keepdim=True) - torch.arange(PRIME)
        k = torch.arange(1, len(self.amplitudes) + 1).double()
        waves = (off[..., None] * k * (2 * math.pi / PRIME)).cos()
        return (waves * self.amplitudes).sum(-1) + self.offset


PAIRS = torch.cartesian_prod(torch.arange(PRIME), torch.arange(PRIME))
SUMS = PAIRS.sum(1) % PRIME


def test_basis_is_orthonormal_and_spans_waves():
    basis = fourier.fourier_basis(PRIME)
    torch.testing.assert_close(basis @ basis.T, torch.eye(PRIME).double())
    a = torch.arange(PRIME).double()
    wave = (2 * math.pi * 3 * a / PRIME).sin()
    found = basis @ wave
    assert found.abs().argmax() == 6  # 1, cos 1, sin 1, cos 2, sin 2, cos 3, sin 3
    assert found[6].item() == pytest.approx(math.sqrt(PRIME / 2))


def test_amplitudes_are_those_put_in():
    given = [0.0, 2.0, 0.0, 0.5, 0.0, 1.0]
    model = Waves(given, offset=3.0)
    found = fourier.amplitudes(fourier.all_logits(model, PRIME))
    np.testing.assert_allclose(found.numpy(), given, atol=1e-12)
    measures = fourier.measure(model, PRIME, (PAIRS, SUMS), [2, 4, 6])
    assert measures.share.sum().item() == pytest.approx(1)
    assert fourier.key_frequencies(model, PRIME) == (2, 4, 6)
    assert fourier.key_frequencies(model, PRIME, share=0.1) == (2, 6)


def test_restricted_and_excluded_loss_take_apart_what_was_put_together():
    model = Waves([0.0, 2.0, 0.0, 0.5, 0.0, 1.0], offset=3.0)
    half = (PAIRS[::2], SUMS[::2])
    all_of_it = fourier.measure(model, PRIME, half, [2, 4, 6])
    whole = F.cross_entropy(model(PAIRS), SUMS).item()
    assert all_of_it.restricted_loss == pytest.approx(whole)
    offset_alone = F.cross_entropy(model.offset.expand(len(half[1]), -1), half[1]).item()
    assert all_of_it.excluded_loss == pytest.approx(offset_alone)
    # Brute force for one frequency: projection on the two waves of a + b, output by output.
    one = fourier.measure(model, PRIME, half, [4])
    without = F.cross_entropy(Waves([0.0, 2.0, 0.0, 0.0, 0.0, 1.0], 3.0)(half[0]), half[1]).item()
    assert one.excluded_loss == pytest.approx(without)


def test_components_agree_with_a_projection_in_full():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(PRIME, PRIME, PRIME, generator=generator, dtype=torch.float64)
    a = torch.arange(PRIME).double()
    angle = 2 * math.pi * 5 * (a[:, None] + a) / PRIME
    power = 0.0
    for wave in (angle.cos(), angle.sin()):
        unit = wave / wave.norm()
        power += torch.einsum("ab,abc->c", unit, logits).square().sum().item()
    found = fourier.amplitudes(logits)[4].item()
    assert found == pytest.approx(math.sqrt(2 * power / PRIME**3))


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 1.0, 1.0, 1.0], 0.0), ([0.0, 0.0, 0.0, 5.0], 0.75), ([0.0, 0.0], 0.0)],
)
def test_gini(values, expected):
    assert fourier.gini(torch.tensor(values)) == pytest.approx(expected)


def test_gini_is_the_mean_difference():
    x = torch.rand(7, dtype=torch.float64)
    brute = (x[:, None] - x).abs().sum() / (2 * len(x) * x.sum())
    assert fourier.gini(x) == pytest.approx(brute.item())


def test_restricted_and_excluded_networks_add_up():
    weights = modular_addition.task(PRIME).model.state_dict()
    keep = fourier.only_frequencies(weights, [2, 5], PRIME)["embedding.weight"]
    drop = fourier.without_frequencies(weights, [2, 5], PRIME)["embedding.weight"]
    table = weights["embedding.weight"]
    # The mean over numbers is in both.
    torch.testing.assert_close(keep + drop, table + table.mean(0), rtol=1e-5, atol=1e-6)
    basis = fourier.fourier_basis(PRIME)
    assert (basis @ drop.double())[[3, 4, 9, 10]].abs().max() < 1e-6
    assert (basis @ keep.double())[[1, 2, 5, 6, 7, 8, 11, 12]].abs().max() < 1e-6


def growing(steps):
    """Frequency 2 grows as step/100, frequency 5 comes at step 500; 3 comes and goes."""
    late = [1.0 if s >= 500 else 0.0 for s in steps]
    return [
        (s, {"amplitudes": torch.tensor([0.0, s / 100, 0.3 * (s < 400), 0.0, 3 * x, 0.0]).double(),
             "offset": torch.zeros(PRIME).double()})
        for s, x in zip(steps, late, strict=True)
    ]  # fmt: skip


def test_births_over_training(tmp_path):
    task = Task(Waves([0.0] * 6), (PAIRS[::2], SUMS[::2]), "cross_entropy", name="waves")
    steps = list(range(100, 1001, 100))
    found = circuits(task, growing(steps))
    assert found.frequencies == (2, 5)
    two, five = sorted(found.births, key=lambda birth: birth.frequency)
    assert two.amplitude == pytest.approx(10)
    assert (two.start, two.step, two.end) == pytest.approx((100, 500, 900))
    assert (five.start, five.step, five.end) == pytest.approx((410, 450, 490))
    again = Circuits.load(found.save(tmp_path / "fourier.json"))
    assert again.to_dict() == found.to_dict()
    assert "frequency   5" in str(found)
    figure = plot.circuits(found)
    assert len(figure.axes) == 2


def test_what_cannot_be_measured_is_refused(tmp_path):
    flat = Task(Waves([0.0] * 6), (PAIRS, SUMS), "cross_entropy")
    with pytest.raises(InputError, match="has not understood"):
        circuits(flat, [(1, flat.model.state_dict())])
    with pytest.raises(InputError, match="out of range"):
        circuits(flat, [(1, flat.model.state_dict())], frequencies=[7])
    line = Task(torch.nn.Linear(3, 1), (torch.randn(5, 3), torch.randn(5, 1)), "mse")
    with pytest.raises(InputError, match="no pairs of numbers"):
        circuits(line, [(1, line.model.state_dict())])
    with pytest.raises(InputError, match="expected a file that rlct fourier wrote"):
        Circuits.load(tmp_path / "nothing.json")
    with pytest.raises(InputError, match="odd number"):
        fourier.fourier_basis(8)


def test_command(tmp_path, capsys):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    modular_addition.train(folder, steps=40, save_at=[20, 40], prime=PRIME, follow_change=False)
    task = tmp_path / "my_task.py"
    task.write_text(
        "from llc.tasks import modular_addition\n"
        f"def small():\n    return modular_addition.task({PRIME})\n"
    )
    out = tmp_path / "out"
    arguments = ["fourier", str(folder), "--task", f"{task}:small", "--out", str(out)]
    assert main([*arguments, "--frequencies", "2", "5"]) == 0
    assert "key frequencies 2, 5" in capsys.readouterr().out
    assert Circuits.load(out / "fourier.json").frequencies == (2, 5)
    assert (out / "figures" / "fourier.png").exists()
