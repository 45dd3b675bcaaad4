"""Tiny targets with known answers, and the answers.

Three numbers are kept apart: A, the coefficient λ as n → ∞; B, the expectation of the estimator
at the nβ and γ used; C, what a sampler returned. Tests compare C with B. Helpers named
``exact_...`` return B.
"""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import torch
from scipy import special
from torch import nn

import llc


class Vector(nn.Module):
    """A model that is nothing but a vector of parameters w."""

    def __init__(self, w, dtype=torch.float64):
        super().__init__()
        self.w = nn.Parameter(torch.as_tensor(w, dtype=dtype))


def quadratic(h, shift=None, dtype=torch.float64):
    """L = Σ h_i (w_i − shift_i)²/2 at w* = 0; a shift makes w* no minimum."""
    h = torch.as_tensor(h, dtype=dtype)
    shift = torch.zeros_like(h) if shift is None else torch.as_tensor(shift, dtype=dtype)
    model = Vector(torch.zeros_like(h), dtype)
    return llc.Task(model, potential=lambda m: (h * (m.w - shift) ** 2).sum() / 2)


def quartic():
    """L = w⁴ at w* = 0."""
    return llc.Task(Vector([0.0]), potential=lambda m: (m.w**4).sum())


def crossing():
    """L = x²y² at the crossing of its two lines of minima."""
    return llc.Task(Vector([0.0, 0.0]), potential=lambda m: (m.w**2).prod())


class LinearNet(nn.Module):
    """P(w) = W_L ⋯ W_1 without activations."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ParameterList([nn.Parameter(layer) for layer in layers])

    def forward(self):
        product = self.layers[0]
        for layer in list(self.layers)[1:]:
            product = layer @ product
        return product


def linear_net(widths, rank, seed=0, dtype=torch.float32):
    """L = ‖P(w) − P*‖² (inputs of unit covariance), w* a teacher of the given rank.

    Layers are Q_s diag(σ, 0) Q_{s−1}ᵀ with shared orthogonal Q: every partial product has the
    same rank, so that the local coefficient at w* is the global one of that rank.
    """
    generator = torch.Generator().manual_seed(seed)
    frames = [
        torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0]
        for width in widths
    ]
    sigma = torch.linspace(0.8, 1.2, rank, dtype=torch.float64)
    layers = [
        (out[:, :rank] * sigma @ into[:, :rank].T).to(dtype) for into, out in pairwise(frames)
    ]
    model = LinearNet(layers)
    with torch.no_grad():
        teacher = model().clone()
    return llc.Task(model, potential=lambda m: ((m() - teacher) ** 2).sum())


def shares(h, n_beta, gamma):
    """s_i = nβh_i/(nβh_i + γ), the share of each direction that the loss holds."""
    h = np.asarray(h, dtype=float)
    return n_beta * h / (n_beta * h + gamma)


def exact_quadratic(h, n_beta, gamma):
    """B = Σ s_i/2."""
    return float(shares(h, n_beta, gamma).sum() / 2)


def exact_off_centre(h, shift, n_beta, gamma):
    """B away from the minimum, in terms of gradient g, Hessian H and S = (nβH + γ)⁻¹."""
    h, shift = np.asarray(h, dtype=float), np.asarray(shift, dtype=float)
    g, s = -h * shift, 1 / (n_beta * h + gamma)
    terms = n_beta * h * s / 2 - n_beta**2 * g * s * g + n_beta**3 * g * s * h * s * g / 2
    return float(terms.sum())


def exact_quartic(n_beta, gamma, power=1):
    """E[(nβ w⁴)^power] under exp(−nβw⁴ − γw²/2) by the trapezoidal rule."""
    w = np.linspace(-1, 1, 20_001) * min(12 / gamma**0.5, (60 / n_beta) ** 0.25)
    weight = np.exp(-n_beta * w**4 - gamma * w**2 / 2)
    return float(((n_beta * w**4) ** power * weight).sum() / weight.sum())


def exact_crossing(n_beta, gamma):
    """B = ½ + z − z K₁(z)/K₀(z) with z = γ²/(8nβ)."""
    z = gamma**2 / (8 * n_beta)
    return float(0.5 + z - z * special.k1e(z) / special.k0e(z))


def exact_zero_teacher(inputs, outputs, n_beta, gamma):
    """B of a two-layer net with two hidden units at w* = 0, where L = ‖BA‖².

    Given A the posterior of B is Gaussian and integrates out; what is left depends on the
    eigenvalues t of AAᵀ, whose density is Wishart's (inputs ≥ 2), on a logarithmic grid.
    """
    u = np.linspace(-40, 6, 1501) - math.log(gamma)
    t, v = np.meshgrid(np.exp(u), np.exp(u), indexing="ij")
    share_t, share_v = (2 * n_beta * x / (2 * n_beta * x + gamma) for x in (t, v))
    log_weight = (
        (inputs - 1) / 2 * np.log(t * v)  # one power more than Wishart's: dt = t du
        - outputs / 2 * np.log((2 * n_beta * t + gamma) * (2 * n_beta * v + gamma))
        - gamma / 2 * (t + v)
    )
    weight = np.exp(log_weight - log_weight.max()) * abs(t - v)
    return float((outputs / 2 * (share_t + share_v) * weight).sum() / weight.sum())


def aoyagi(widths, rank):
    """A and its multiplicity for a deep linear net at a product of given rank (Aoyagi 2024)."""
    regular = Fraction(rank * (widths[0] + widths[-1]) - rank**2, 2)
    spare = sorted(width - rank for width in widths)
    if spare[0] == 0:
        return regular, 1
    for count in range(2, len(spare) + 1):
        chosen, rest = spare[:count], spare[count:]
        if rest and rest[0] == chosen[-1]:
            continue  # equal widths enter together
        total, ell = sum(chosen), count - 1
        if total >= ell * chosen[-1] and (not rest or total < ell * rest[0]):
            a = total - (math.ceil(Fraction(total, ell)) - 1) * ell
            pairs = (total**2 - sum(m**2 for m in chosen)) // 2
            singular = (
                Fraction(a * (ell - a), 4 * ell)
                - Fraction(ell * (ell - 1), 4) * Fraction(total, ell) ** 2
                + Fraction(pairs, 2)
            )
            return regular + singular, a * (ell - a) + 1
    raise ValueError(f"no set of widths qualifies among {widths} at rank {rank}")
