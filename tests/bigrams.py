"""A language of two tokens whose posterior factorises: every expectation is a quadrature.

After token c the next one is 1 with probability σ(w_c). The loss of a token depends on its
context's weight alone, so that the posterior is a product of two densities on the line.
"""

import numpy as np
import torch
from scipy.integrate import simpson
from torch import nn

N_BETA, GAMMA = 30.0, 4.0
CENTRE = (0.4, -0.7)
GRID = np.linspace(-8, 8, 20001)


class Bigram(nn.Module):
    def __init__(self):
        super().__init__()
        self.zero = nn.Parameter(torch.tensor(CENTRE[0], dtype=torch.float64))
        self.one = nn.Parameter(torch.tensor(CENTRE[1], dtype=torch.float64))

    def forward(self, ids):
        rise = torch.where(ids == 1, self.one, self.zero)
        return torch.stack([torch.zeros_like(rise), rise], -1)


def sequences(count, length=4, seed=0, bias=0.5):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(count, length, generator=generator) < bias).long()


def token_loss(weight, target):
    """−log p(target) where the context's weight is w."""
    return np.logaddexp(0, weight) - target * weight


class Truth:
    """Exact expectations under the posterior of some data."""

    def __init__(self, data, n_beta=N_BETA, gamma=GAMMA, free=(0, 1)):
        pairs = np.stack([data[:, :-1].ravel(), data[:, 1:].ravel()], 1)
        self.densities = []
        for context in (0, 1):
            if context not in free:
                self.densities.append(None)
                continue
            targets = pairs[pairs[:, 0] == context][:, 1]
            loss = sum((targets == t).sum() * token_loss(GRID, t) for t in (0, 1)) / len(pairs)
            log = -n_beta * loss - gamma / 2 * (GRID - CENTRE[context]) ** 2
            density = np.exp(log - log.max())
            self.densities.append(density / simpson(density, x=GRID))

    def mean(self, context, function):
        density = self.densities[context]
        if density is None:
            return function(np.array(CENTRE[context]))
        return simpson(density * function(GRID), x=GRID)

    def losses(self, ids):
        """E[ℓ] of every token, ``(sequence, token)``."""
        table = np.array(
            [[self.mean(c, lambda w, t=t: token_loss(w, t)) for t in (0, 1)] for c in (0, 1)]
        )
        return table[ids[:, :-1], ids[:, 1:]]

    def products(self, ids, others):
        """E[ℓ_i ℓ_j] of tokens of one set with tokens of another, flattened."""
        table = np.empty((2, 2, 2, 2))
        for c, t, d, u in np.ndindex(2, 2, 2, 2):
            if c == d:
                both = self.mean(c, lambda w, t=t, u=u: token_loss(w, t) * token_loss(w, u))
            else:
                both = self.mean(c, lambda w, t=t: token_loss(w, t)) * self.mean(
                    d, lambda w, u=u: token_loss(w, u)
                )
            table[c, t, d, u] = both
        a, b = ids[:, :-1].ravel(), ids[:, 1:].ravel()
        c, d = others[:, :-1].ravel(), others[:, 1:].ravel()
        return table[a[:, None], b[:, None], c[None], d[None]]


def at_centre(ids):
    """ℓ of every token at w*, ``(sequence, token)``."""
    return token_loss(np.array(CENTRE)[ids[:, :-1]], ids[:, 1:])
