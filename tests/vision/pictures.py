"""Small pictures with labels, and nets for them, for tests."""

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

COUNT = 600


def images(count: int = COUNT) -> tuple[Tensor, Tensor]:
    """Three noisy patterns of 1 × 6 × 6."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(3, 1, 6, 6, generator=generator)
    labels = torch.randint(3, (count,), generator=generator)
    noise = torch.randn(count, 1, 6, 6, generator=generator)
    return patterns[labels] + 0.5 * noise, labels


class Pictures(Dataset):
    """Pairs (image, int) by number, as torchvision's data sets give them."""

    def __init__(self, count=COUNT, transform=None):
        self.images, self.labels = images(count)
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index]
        return image if self.transform is None else self.transform(image), int(self.labels[index])


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        return torch.relu(x + self.norm(self.first(x)))


def residual(batches=5):
    """A residual net with batch norm, its running statistics off their start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), Block(4),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
        )  # fmt: skip
        for _ in range(batches):
            net(images()[0])
    return net
