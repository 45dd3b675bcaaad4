"""Networks whose symmetries are known, in double precision."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from llc.symmetry import Heads, Leg, Offset, Units


def seeded(make, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make().double().eval()
        for buffer in model.buffers():
            if buffer.is_floating_point():
                # Statistics as after training, not the zeros and ones they start from.
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    return model


def outputs(model, weights, inputs):
    with torch.no_grad():
        return functional_call(model, dict(weights), (inputs,))


def noise(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mlp(activation, hidden=5):
    return seeded(lambda: nn.Sequential(nn.Linear(3, hidden), activation, nn.Linear(hidden, 2)))


def convolutions():
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 3, 3, padding=1), nn.LeakyReLU()),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(3 * 9, 6),
            nn.Tanh(),
            nn.Linear(6, 2),
        )
    )


class Attention(nn.Module):
    """Attention from nn.Linear maps with biases, causal or not, rotary or not."""

    def __init__(self, heads=3, size=2, model=5, rotary=False):
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.q, self.k, self.v = (nn.Linear(model, heads * size) for _ in range(3))
        self.o = nn.Linear(heads * size, model)

    def forward(self, x):
        q, k, v = (
            m(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for m in (self.q, self.k, self.v)
        )
        if self.rotary:
            angle = torch.arange(x.shape[1], dtype=x.dtype).view(-1, 1)
            q, k = (
                torch.cat(
                    [
                        t[..., :1] * angle.cos() - t[..., 1:] * angle.sin(),
                        t[..., :1] * angle.sin() + t[..., 1:] * angle.cos(),
                    ],
                    -1,
                )
                for t in (q, k)
            )
        scores = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
        return self.o((scores @ v).transpose(1, 2).flatten(2))


LINEAR_HEADS = Heads(
    "q.weight", "k.weight", "v.weight", "o.weight", 3,
    "q.bias", "k.bias", "v.bias", "o.bias",
)  # fmt: skip


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 3, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class ByHead(nn.Module):
    """Weights as (heads, model, size), and the output's as (heads, size, model)."""

    def __init__(self):
        super().__init__()
        for name in ("q", "k", "v"):
            setattr(self, name, nn.Parameter(torch.randn(3, 5, 2)))
        self.o = nn.Parameter(torch.randn(3, 2, 5))

    def forward(self, x):
        q, k, v = (torch.einsum("bpm,hmd->bhpd", x, w) for w in (self.q, self.k, self.v))
        mixed = (q @ k.mT).softmax(-1) @ v
        return torch.einsum("bhpd,hdm->bpm", mixed, self.o)


class Summed(nn.Module):
    """Two maps summed, GELU, unembedding: the shape of the modular-addition network."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 3)
        self.left, self.right = nn.Linear(3, 6), nn.Linear(3, 6)
        self.unembedding = nn.Linear(6, 7, bias=False)

    def forward(self, pairs):
        hidden = self.left(self.embedding(pairs[:, 0])) + self.right(self.embedding(pairs[:, 1]))
        return self.unembedding(F.gelu(hidden))


PAIRS = torch.cartesian_prod(torch.arange(7), torch.arange(7))
IMAGES = noise(4, 2, 6, 6)
ROWS = noise(8, 3)
SEQUENCES = noise(2, 4, 5)

HIDDEN = ["0.weight", "0.bias"]


def cases():
    """(name, model, inputs, symmetry) that leave outputs as they are."""
    found = [
        ("permutation", mlp(nn.GELU()), ROWS, Units(HIDDEN, ["2.weight"])),
        ("relu", mlp(nn.ReLU()), ROWS, Units(HIDDEN, ["2.weight"], "relu")),
        ("leaky", mlp(nn.LeakyReLU()), ROWS, Units(HIDDEN, ["2.weight"], "relu")),
        ("odd", mlp(nn.Tanh()), ROWS, Units(HIDDEN, ["2.weight"], "odd")),
        ("linear", mlp(nn.Identity()), ROWS, Units(HIDDEN, ["2.weight"], "linear")),
        (
            "offset",
            mlp(nn.Identity()),
            ROWS,
            Offset("0.bias", [("2.weight", "2.bias")]),
        ),
        ("heads", seeded(Attention), SEQUENCES, LINEAR_HEADS),
        (
            "rotary heads",
            seeded(lambda: Attention(rotary=True)),
            SEQUENCES,
            Heads("q.weight", "k.weight", "v.weight", "o.weight", 3, "q.bias", "k.bias", "v.bias",
                  "o.bias", rotary=True),
        ),
        ("packed heads", seeded(Packed), noise(2, 4, 6), Heads.packed("attention.", 3, 6)),
        (
            "heads by axes",
            seeded(ByHead),
            SEQUENCES,
            Heads(("q", (0, 2)), ("k", (0, 2)), ("v", (0, 2)), ("o", (0, 1)), 3),
        ),
        (
            "embedding",
            seeded(Summed),
            PAIRS,
            Units([("embedding.weight", 1)], ["left.weight", "right.weight"], "linear"),
        ),
        (
            "embedding's origin",
            seeded(Summed),
            PAIRS,
            Offset(
                ("embedding.weight", 1),
                [("left.weight", "left.bias"), ("right.weight", "right.bias")],
            ),
        ),
        ("biases", seeded(Summed), PAIRS, Offset("left.bias", ["right.bias"])),
        (
            "channels",
            convolutions(),
            IMAGES,
            Units(["3.1.weight", "3.1.bias"], [Leg("6.weight", 1, block=9)], "relu"),
        ),
    ]  # fmt: skip
    return found
