"""The two gates of a statistical test: enough draws to see a wrong value, then the value."""

import numpy as np

from llc.diagnostics import ess, mcse

SIGMAS = 5.0
LEAST_ESS = 400
EXPLODED = 1e100  # beyond this even a variance overflows


def two_gates(draws, truth, wrong):
    """Demand that draws ``(chains, draws)`` have mean ``truth`` and would have refused ``wrong``.

    A wide error bar agrees with everything, so the first gate asks for effective draws and for
    an error so small that no mean can agree with both values.
    """
    assert np.isfinite(draws).all(), "draws are not finite"
    assert abs(draws).max() < EXPLODED, "draws have exploded"
    error, mean = mcse(draws), draws.mean()
    assert ess(draws) >= LEAST_ESS, f"only {ess(draws):.0f} effective draws"
    assert abs(mean - truth) < SIGMAS * error, (
        f"mean {mean:.5g} ± {error:.2g}, expected {truth:.5g}: {(mean - truth) / error:+.1f} s.e."
    )
    assert abs(wrong - truth) > 2 * SIGMAS * error, (
        f"an error of {error:.3g} cannot tell {truth:.4g} from {wrong:.4g}"
    )
