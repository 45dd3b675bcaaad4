"""Cases with known answers: λ and m exactly, the estimator's exact expectation B, and the task.

>>> from llc import truths
>>> truth = truths.linear_net((10, 10, 10, 10), rank=3)
>>> print(truth)
linear net 10-10-10-10, rank 3: λ = 42, m = 3
>>> truths.crossing().expected(n_beta=1e4, gamma=1.0)
0.41233...
"""

from llc.truths.linear import linear_net, reduced_rank, two_layer_local
from llc.truths.networks import relu_net, tanh_net
from llc.truths.polygons import polygon
from llc.truths.potentials import (
    crossing,
    cusp,
    monomial,
    norm_power,
    potential,
    powers,
    product_of,
    quadratic,
    sum_of,
)
from llc.truths.truth import Truth

__all__ = [
    "Truth",
    "crossing",
    "cusp",
    "linear_net",
    "monomial",
    "norm_power",
    "polygon",
    "potential",
    "powers",
    "product_of",
    "quadratic",
    "reduced_rank",
    "relu_net",
    "sum_of",
    "tanh_net",
    "two_layer_local",
]
