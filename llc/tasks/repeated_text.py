"""Text that repeats itself: pieces of a chain, each over and over.

A piece of 8 to 15 tokens is drawn from a chain and repeated until 32 tokens are full. In the chain
a token follows from the one before (probability 2/5), from the one three before (2/5), or from
nothing. The length of the piece varies, so that no fixed distance leads back to what came before.
"""

import torch
from torch import Tensor

from llc.params import stream_seed

__all__ = ["LAG", "LENGTH", "PIECE", "RULE", "TOKENS", "chain_losses", "draw_sequences",
           "generator_of", "rules"]  # fmt: skip

TOKENS, LENGTH, PIECE = 24, 32, (8, 16)
RULE, LAG = 0.4, 3


def rules(seed: int = 0) -> Tensor:
    """Return what follows a token, and what follows three after it: permutations ``(2, 24)``."""
    generator = generator_of(seed, "chain")
    return torch.stack([torch.randperm(TOKENS, generator=generator) for _ in range(2)])


def draw_sequences(
    count: int, generator: torch.Generator, chain: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Draw sequences ``(count, 32)`` and the length of the piece that each repeats, ``(count,)``.

    ``chain`` is what `rules` returns; None draws random tokens.
    """
    piece = torch.randint(*PIECE, (count,), generator=generator)
    tokens = torch.randint(TOKENS, (count, PIECE[1]), generator=generator)
    luck = torch.rand(tokens.shape, generator=generator)
    after, later = rules() if chain is None else chain
    for k in range(1, 1 if chain is None else PIECE[1]):
        near = luck[:, k] < RULE
        far = (luck[:, k] >= 1 - RULE) & (k >= LAG)
        tokens[near, k] = after[tokens[near, k - 1]]
        tokens[far, k] = later[tokens[far, k - LAG]]
    return tokens.gather(1, torch.arange(LENGTH) % piece[:, None]), piece


def chain_losses(tokens: Tensor, chain: Tensor) -> Tensor:
    """Return −ln p of each token but the first under the chain alone, ``(count, 31)``.

    On the first pass no predictor has a lower expected loss.
    """
    p = torch.full(tokens[:, 1:].shape, (1 - 2 * RULE) / TOKENS)
    p[:, : LAG - 1] = (1 - RULE) / TOKENS
    p += RULE * (tokens[:, 1:] == chain[0][tokens[:, :-1]])
    p[:, LAG - 1 :] += RULE * (tokens[:, LAG:] == chain[1][tokens[:, :-LAG]])
    return -p.log()


def generator_of(seed: int, purpose: str, number: int = 0) -> torch.Generator:
    """Return a generator of its own for each purpose, and each number of it."""
    return torch.Generator().manual_seed(stream_seed(seed, purpose, number))
