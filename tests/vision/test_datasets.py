"""Pictures through any Dataset: what is read, and what is refused in one sentence."""

import random

import numpy as np
import pytest
import torch
from pictures import COUNT, Pictures, images, residual
from PIL import Image
from tiny import refusal
from torch import nn
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)

import llc
import llc.data.reading
from llc.data import materialise

IMAGES, LABELS = images()
SOME = list(range(COUNT - 1, 0, -3))


class Alike:
    """No Dataset, but with a length and examples by number."""

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return IMAGES[index].numpy(), LABELS[index].item()


def split():
    return random_split(Pictures(), [0.5, 0.5], torch.Generator().manual_seed(1))[0]


WORKING = {
    "map-style": (Pictures, None),
    "subset": (lambda: Subset(Pictures(), SOME), SOME),
    "subset of tensors": (lambda: Subset(TensorDataset(IMAGES, LABELS), SOME), SOME),
    "random split": (split, lambda: split().indices),
    "two joined": (
        lambda: ConcatDataset([Pictures(), Subset(Pictures(), SOME)]),
        [*range(COUNT), *SOME],
    ),
    "tensors": (lambda: TensorDataset(IMAGES, LABELS), None),
    "loader": (lambda: DataLoader(Pictures(), 7, shuffle=True, num_workers=2), None),
    "loader of some": (lambda: DataLoader(Pictures(), 7, sampler=SubsetRandomSampler(SOME)), SOME),
    "no Dataset by name": (Alike, None),
    "a deterministic transform": (lambda: Pictures(transform=lambda x: x * 1.0), None),
}


@pytest.mark.parametrize(("make", "index"), WORKING.values(), ids=WORKING)
def test_whatever_gives_pairs_by_number_is_read_whole_and_in_order(make, index):
    index = slice(None) if index is None else index() if callable(index) else index
    inputs, targets = materialise(make())
    assert torch.equal(inputs, IMAGES[index])
    assert torch.equal(targets, LABELS[index])
    assert (inputs.dtype, targets.dtype) == (torch.float32, torch.int64)


def rarely(image):
    """Augment one picture of a hundred, by the process's generator."""
    return image + 1 if torch.rand(()) < 0.01 else image


def own_noise():
    generator = np.random.default_rng(0)
    return lambda image: image + float(generator.random())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pictures(transform=lambda x: x + random.random()),
        lambda: Pictures(transform=lambda x: x + np.random.rand()),
        lambda: Pictures(transform=rarely),
        # From a generator that nobody sees, and only in a part of the data.
        lambda: ConcatDataset([Pictures(), Pictures(100, own_noise())]),
    ],
    ids=["python's", "numpy's", "rare", "its own, late"],
)
def test_random_augmentation_is_noticed_and_generators_stay(make):
    torch.manual_seed(0)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert "random augmentation" in refusal(lambda: materialise(make()))
    assert states[0] == random.getstate()
    assert states[1] == np.random.get_state()[1].tolist()
    assert torch.equal(states[2], torch.get_rng_state())


def test_random_numbers_without_effect_are_no_augmentation():
    def in_vain(image):
        torch.rand(3)
        return image

    assert torch.equal(materialise(Pictures(transform=in_vain))[0], IMAGES)


def test_missing_values_are_no_augmentation():
    inputs, _ = materialise(Pictures(transform=lambda x: x.masked_fill(x > 1, torch.nan)))
    assert inputs.isnan().any()


def test_reading_takes_no_second_copy_of_the_data(monkeypatch):
    made = []
    real = llc.data.reading._stacked
    monkeypatch.setattr(llc.data.reading, "_stacked", lambda *a: made.append(len(a[2])) or real(*a))
    materialise(Pictures())
    assert max(made) == 256
    assert sum(made) == COUNT + 64  # everything once, and 64 again


class Large(Dataset):
    """A million pictures for the eyes of who looks at the length; few can be read in a test."""

    read = 0

    def __len__(self):
        return 10**6

    def __getitem__(self, index):
        Large.read += 1
        return torch.zeros(3, 600, 600), 0


def test_data_larger_than_memory_are_refused_before_they_are_read(monkeypatch):
    monkeypatch.setattr(llc.data.reading, "free_memory", lambda _: 1e11)
    monkeypatch.setattr(llc.data.reading, "CHUNK", 4)
    monkeypatch.setattr(Large, "read", 0)
    message = refusal(lambda: materialise(Large()))
    assert Large.read <= 8
    assert all(w in message for w in ("1,000,000", "4.32 MB", "4320.0 GB", "80.0 GB", "Subset"))
    # What the sentence proposes works.
    index = torch.randperm(10**6)[:12].tolist()
    assert materialise(Subset(Large(), index))[0].shape == (12, 3, 600, 600)


def picture(index):
    return Image.fromarray(np.zeros((6, 6), np.uint8)), 0


class From(Dataset):
    def __init__(self, get):
        self.get = get

    def __len__(self):
        return 400

    def __getitem__(self, index):
        return self.get(index)


REFUSED = {
    "PIL": (lambda: From(picture), ["PIL images", "(6, 6)", "transform", "ToTensor"]),
    "sizes differ": (lambda: From(lambda i: (torch.zeros(1, 4 + i // 256), 0)),
                     ["one shape", "(1, 4)", "(1, 5)", "resize"]),
    "kinds differ": (lambda: From(lambda i: (torch.zeros(2), 0) if i < 256 else torch.zeros(2)),
                     ["different kinds", "pair"]),
    "out of range": (lambda: From([].__getitem__), ["example 0", "IndexError"]),
    "dictionaries": (lambda: From(lambda i: {"image": torch.zeros(2), "label": 0}),
                     ["pairs (inputs, targets)", "batch_loss"]),
    "weighted": (lambda: DataLoader(Pictures(), 4, sampler=WeightedRandomSampler([1.0] * 600, 9)),
                 ["WeightedRandomSampler", "Subset"]),
}  # fmt: skip


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_told_in_one_sentence(make, words):
    message = refusal(lambda: llc.Task(residual(), make(), "cross_entropy"))
    assert [word for word in words if word not in message] == []


def test_pictures_of_another_kind_of_number():
    for inputs, words in (
        ((255 * IMAGES.sigmoid()).to(torch.uint8), ["uint8", "(600, 1, 6, 6)", "/ 255"]),
        (IMAGES.double(), ["float64", "float32", "inputs.to(torch.float32)"]),
    ):
        message = refusal(lambda x=inputs: llc.estimate(residual(), (x, LABELS), "cross_entropy"))
        assert [word for word in words if word not in message] == []


class Scales(nn.Module):
    """Takes bytes, as it may."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))

    def forward(self, pictures):
        return self.net(pictures.float() / 255)


def test_a_model_that_takes_bytes_is_given_them():
    model, numbers = Scales(), (255 * IMAGES.sigmoid()).to(torch.uint8)
    given = {"loss": "cross_entropy", "gamma": 10.0, "draws": 20, "burn_in": 5, "step_size": 0.01}
    found = llc.estimate(model, (numbers, LABELS), **given)
    assert found.llc == llc.estimate(model, (numbers.float(), LABELS), **given).llc
