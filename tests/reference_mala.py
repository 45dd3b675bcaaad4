"""A Metropolis-adjusted Langevin sampler of its own, in double precision: what numbers should be.

It shares no code with the package: not the loss, not the flat vector, not the kernel.
"""

import math

import torch
from torch.func import functional_call, grad_and_value, vmap


def rise_and_error(model, loss, n_beta, gamma, *, chains=32, steps=3000, step=0.05, seed=0):
    """nβ(E[L(w)] − L(w*)) over exp(−nβL(w) − (γ/2)‖w − w*‖²), and its standard error.

    ``loss`` maps a function of the inputs, the model at w, to L(w) over all data. A fifth of the
    steps is burn-in; the step is halved or doubled there until three to nine of ten are accepted.
    The error is that of the chains' means.
    """
    model = model.double()
    centre = {name: p.detach().clone() for name, p in model.named_parameters()}
    noise = torch.Generator().manual_seed(seed)

    def energy(delta):
        weights = {name: centre[name] + delta[name] for name in centre}
        value = loss(lambda inputs: functional_call(model, weights, (inputs,)))
        squares = sum((part**2).sum() for part in delta.values())
        return n_beta * value + gamma / 2 * squares, n_beta * value

    look = vmap(grad_and_value(energy, has_aux=True))
    spread = {n: torch.zeros(chains, *p.shape, dtype=torch.float64) for n, p in centre.items()}
    slope, (height, rise) = look(spread)
    start, found, accepted = rise[0].item(), [], 0.0
    for number in range(steps):
        drift = {n: spread[n] - step * slope[n] for n in spread}
        ahead = {
            n: drift[n] + math.sqrt(2 * step) * torch.randn(
                drift[n].shape, generator=noise, dtype=torch.float64
            )
            for n in drift
        }  # fmt: skip
        slope_there, (height_there, rise_there) = look(ahead)
        back = {n: ahead[n] - step * slope_there[n] for n in ahead}
        there = sum(((ahead[n] - drift[n]) ** 2).flatten(1).sum(1) for n in ahead)
        again = sum(((spread[n] - back[n]) ** 2).flatten(1).sum(1) for n in ahead)
        odds = height - height_there + (there - again) / (4 * step)
        taken = torch.rand(chains, generator=noise, dtype=torch.float64).log() < odds

        def pick(new, old, taken=taken):
            return torch.where(taken.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        spread = {n: pick(ahead[n], spread[n]) for n in spread}
        slope = {n: pick(slope_there[n], slope[n]) for n in slope}
        height, rise = pick(height_there, height), pick(rise_there, rise)
        accepted += taken.double().mean().item() / 50
        if number < steps // 5 and number % 50 == 49:
            step *= 0.5 if accepted < 0.3 else 2.0 if accepted > 0.9 else 1.0
        if number % 50 == 49:
            accepted = 0.0
        if number >= steps // 5:
            found.append(rise - start)
    means = torch.stack(found).mean(0)
    return means.mean().item(), (means.std() / math.sqrt(chains)).item()
