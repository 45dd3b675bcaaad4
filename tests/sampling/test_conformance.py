"""Every sampler keeps the contract of a kernel."""

import random

import numpy as np
import pytest
import torch
from stationary import kernel_of, posterior_of
from torch import nn

import llc
from llc.params import NoiseStreams
from llc.sampling.chains import Streams, advance
from llc.sampling.kernel import StepInfo
from llc.sampling.schemes import SCHEMES, scheme_for
from llc.settings import SAMPLERS

CHAINS, EXAMPLES, BATCH = 4, 24, 6
N_BETA, GAMMA, STEP, FRICTION, LEAPS = 20.0, 5.0, 0.02, 6.0, 3
DTYPES = (torch.float32, torch.float64)


def target(dtype):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(EXAMPLES, 3, generator=generator, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
        targets = model(inputs)
    data = (inputs.to(dtype), targets.to(dtype))
    return posterior_of(llc.Task(model.to(dtype), data, "mse"), N_BETA, GAMMA)


class Case:
    """A sampler's kernel, two steps into its run, with the inputs of the third."""

    def __init__(self, sampler, dtype=torch.float64, step_size=STEP, chains=CHAINS):
        self.posterior = target(dtype)
        batch_size = None if scheme_for(sampler).exact else BATCH
        self.kernel = kernel_of(sampler, self.posterior, step_size, FRICTION, leaps=LEAPS)
        self.streams = Streams.open(self.posterior, 3, chains, batch_size)
        self.start = NoiseStreams(4, "start", chains).normal(self.posterior.dimension, dtype) / 10
        self.first = self.kernel.init(self.start.clone())
        self.state, self.draws = advance(self.kernel, self.first, self.streams, 2)
        self.batch, self.noise = self.streams.batch(), self.streams.step_noise(self.kernel)

    def step(self):
        return self.kernel.step(self.state, self.batch, self.noise)


@pytest.fixture(params=SAMPLERS)
def sampler(request):
    return request.param


def copied(tensors):
    return type(tensors)(*(x.clone() for x in tensors))


def same(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def global_generators():
    numpy_state = np.random.get_state()
    return (
        torch.get_rng_state().tolist(),
        numpy_state[1].tolist(),
        numpy_state[2:],
        random.getstate(),
    )


def test_every_name_has_a_scheme_and_every_scheme_a_name():
    assert set(SCHEMES) == set(SAMPLERS) - {"auto"}
    assert all(scheme.name == name for name, scheme in SCHEMES.items())


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_state_is_tensors_with_chains_first_and_stays_so(sampler, dtype):
    case = Case(sampler, dtype)
    after, _ = case.step()
    for state in (case.first, case.state, after):
        assert type(state) is type(case.first)
        assert isinstance(state, tuple)
        for name, tensor in zip(state._fields, state, strict=True):
            assert tensor.shape == getattr(case.first, name).shape
            assert len(tensor) == CHAINS
            assert tensor.dtype == dtype
            assert tensor.isfinite().all()
            assert not tensor.requires_grad
    assert after.displacement.shape == (CHAINS, case.posterior.dimension)
    assert torch.equal(case.first.displacement, case.start)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_reports_the_position_where_it_began(sampler, dtype):
    case = Case(sampler, dtype)
    _, info = case.step()
    assert isinstance(info, StepInfo)
    assert len(info) == 5
    for tensor in info:
        assert tensor.shape == (CHAINS,)
        assert tensor.dtype == dtype
    delta = case.state.displacement
    here = case.posterior.evaluate(delta, case.batch)
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(info.rise, here.rise, **close)
    torch.testing.assert_close(info.noise, here.noise, **close)
    torch.testing.assert_close(info.pull, (delta * here.gradient).sum(1), **close)
    torch.testing.assert_close(info.spread, GAMMA * (delta * delta).sum(1), **close)
    assert ((info.acceptance >= 0) & (info.acceptance <= 1)).all()
    if not scheme_for(sampler).exact:
        assert (info.acceptance == 1).all()


def test_a_step_is_a_pure_function_of_its_arguments(sampler):
    case = Case(sampler)
    state, noise = copied(case.state), case.noise.clone()
    batch = None if case.batch is None else case.batch.clone()
    before = global_generators()
    first = case.step()
    torch.manual_seed(5)  # what it draws may not come from here either
    elsewhere = global_generators()
    second = case.step()
    assert global_generators() == elsewhere != before
    torch.manual_seed(6)
    assert same(first[0], second[0])
    assert same(first[1], second[1])
    assert same(state, case.state)
    assert torch.equal(noise, case.noise)
    assert batch is None or torch.equal(batch, case.batch)
    # Nor has the kernel a memory: other steps in between make no difference.
    case.kernel.step(first[0], case.batch, case.noise.flip(0))
    assert same(case.step()[0], first[0])


def test_noise_has_the_size_that_the_kernel_names_and_decides_the_step(sampler):
    case = Case(sampler)
    kernel, dimension = case.kernel, case.posterior.dimension
    assert kernel.noise_size(dimension) == kernel.normals * dimension + kernel.extra
    assert case.noise.shape == (CHAINS, kernel.noise_size(dimension))
    moved, info = case.step()
    other, info_of_other = kernel.step(case.state, case.batch, case.noise.flip(0))
    # Metropolis tests may refuse both, but hardly in every chain at so small a step.
    assert not torch.equal(moved.displacement, other.displacement)
    assert torch.equal(info.rise, info_of_other.rise)


@pytest.mark.parametrize("change", ["another place", "nan", "other noise", "other batch"])
def test_chains_never_mix(sampler, change):
    case = Case(sampler)
    state, info = case.step()
    changed, batch, noise = copied(case.state), case.batch, case.noise.clone()
    if change == "another place":
        for tensor in changed:
            tensor[1] += 0.3
    elif change == "nan":
        for tensor in changed:
            tensor[1] = torch.nan
    elif change == "other noise":
        noise[1] = -noise[1]
    elif batch is not None:
        batch = batch.clone()
        batch[1] = (batch[1] + 1) % EXAMPLES
    others = [0, 2, 3]
    apart, info_apart = case.kernel.step(changed, batch, noise)
    assert same([x[others] for x in apart], [x[others] for x in state])
    assert same([x[others] for x in info_apart], [x[others] for x in info])


def test_a_chain_alone_does_what_it_does_in_company(sampler):
    alone, company = Case(sampler, chains=1), Case(sampler)
    for one, many in zip(alone.draws, company.draws, strict=True):
        # Not bitwise: matrix products of other shapes add in another order.
        np.testing.assert_allclose(many[:1], one, rtol=1e-10, atol=1e-12)
    for one, many in zip(alone.step()[0], company.step()[0], strict=True):
        torch.testing.assert_close(many[:1], one, rtol=1e-10, atol=1e-12)


def test_a_step_of_zero_goes_nowhere(sampler):
    case = Case(sampler, step_size=0.0)
    state = case.kernel.init(case.posterior.start(CHAINS))
    state, draws = advance(case.kernel, state, case.streams, 5)
    assert torch.equal(state.displacement, torch.zeros_like(state.displacement))
    assert all(tensor.isfinite().all() for tensor in state)
    assert abs(draws.rise).max() < 1e-12
    assert (draws.spread == 0).all()
    assert torch.equal(case.state.displacement, case.start)


def test_gradients_are_counted_as_they_are_taken(sampler):
    case = Case(sampler)
    taken = []

    def counting(displacement, index):
        taken.append(len(displacement))
        return case.posterior.evaluate(displacement, index)

    kernel = kernel_of(sampler, case.posterior, STEP, FRICTION, counting, leaps=LEAPS)
    kernel.step(case.state, case.batch, case.noise)
    assert sum(taken) == kernel.gradients * CHAINS
