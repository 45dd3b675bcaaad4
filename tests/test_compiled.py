"""How a step is run changes its speed: loop, vmap, recorded and compiled steps agree."""

import gc
import itertools
import warnings
import weakref

import numpy as np
import pytest
import torch
from stationary import posterior_of
from test_no_side_effects import process_state
from tiny import FAST, labelled, linear, real_valued, refusal
from torch import nn

import llc
from llc import compiled
from llc.compiled import Compiled
from llc.execution import GIB, Execution
from llc.memory import chain_bytes
from llc.params import BLOCK, MOST_ROWS, NoiseStreams
from llc.posterior import Posterior
from llc.sampling.chains import Stepper, Streams, advance
from llc.sampling.kernel import Tuning
from llc.sampling.schemes import SCHEMES, scheme_for
from llc.surface import LossSurface

EXAMPLES = 40


def network(seed=0, dtype=torch.float32):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)).to(dtype)


def task(seed=0, dtype=torch.float32):
    inputs, targets = real_valued(EXAMPLES, seed)
    return llc.Task(network(seed, dtype), (inputs.to(dtype), targets.to(dtype)), "mse")


def settings_of(sampler, **more):
    batch_size = None if scheme_for(sampler).exact else 8
    short = {"draws": 12, "burn_in": 15}
    return {"sampler": sampler, "batch_size": batch_size, **FAST, **short, **more}


# --- recordings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SCHEMES)
def test_a_recording_gives_the_same_draws_to_the_byte(sampler):
    # Steps follow the curvature here, so that every part of a run takes part.
    given = settings_of(sampler)
    plain = llc.estimate(task(), compile="off", **given)
    recorded = llc.estimate(task(), compile="trace", **given)
    assert plain.execution.endswith(", off")
    assert recorded.execution.endswith(", trace")
    assert np.isfinite(plain.trace).all()
    assert recorded.trace.tobytes() == plain.trace.tobytes()
    assert recorded.virial_trace.tobytes() == plain.virial_trace.tobytes()
    assert recorded.gradient_evaluations == plain.gradient_evaluations
    assert (recorded.settings, recorded.heat) == (plain.settings, plain.heat)


@pytest.mark.parametrize(
    "more",
    [
        {"batch_size": None},
        {"control_variate": True},
        {"control_variate": True, "step_size": 0.01},
        {"chains": 1},
        {"behavioural": True},
        {"draws": None, "burn_in": None, "budget": 800},
    ],
    ids=str,
)
def test_a_recording_agrees_in_every_kind_of_run(more):
    given = settings_of("kinetic", **more)
    plain = llc.estimate(task(), compile="off", **given)
    recorded = llc.estimate(task(), compile="trace", **given)
    assert recorded.execution.endswith("trace")
    assert recorded.trace.tobytes() == plain.trace.tobytes()


def test_left_alone_short_runs_are_recorded_and_no_more():
    by_itself = llc.estimate(task(), **settings_of("kinetic"))
    recorded = llc.estimate(task(), compile="trace", **settings_of("kinetic"))
    assert by_itself.execution.endswith("trace")
    assert by_itself.trace.tobytes() == recorded.trace.tobytes()


def test_models_of_one_architecture_keep_their_own_numbers():
    # They may share a recording, but neither weights nor data.
    for seed in (0, 1, 0):
        plain = llc.estimate(task(seed), compile="off", **settings_of("kinetic"))
        recorded = llc.estimate(task(seed), compile="trace", **settings_of("kinetic"))
        assert recorded.trace.tobytes() == plain.trace.tobytes()


def test_models_alike_but_for_a_number_in_their_code_do_not_share():
    def scaled(factor):
        def loss(outputs, targets):
            return factor * (outputs - targets) ** 2

        return llc.Task(network(), real_valued(EXAMPLES), lambda o, t: loss(o, t).mean(1))

    for factor in (1.0, 1.0 + 1e-6):
        found = [
            llc.estimate(scaled(factor), compile=mode, **settings_of("kinetic")).trace.tobytes()
            for mode in ("off", "trace")
        ]
        assert found[0] == found[1]


def test_a_recording_does_not_keep_the_data_alive():
    def use():
        surface = LossSurface(task(), execution=Execution(compile="trace"))
        delta = torch.zeros(2, surface.layout.total)
        surface.evaluate(delta, torch.zeros((2, 4), dtype=torch.int64))
        assert surface.how == "trace"
        return weakref.ref(surface._objective.data[0].untyped_storage())

    data = use()
    gc.collect()
    alive = data() is not None
    assert not alive


# --- loop and vmap -------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SCHEMES)
def test_loop_and_vmap_agree_over_a_short_run(sampler):
    runs = []
    for side, mode in ((1, "off"), (2, "trace"), (4, "trace")):
        surface = LossSurface(task(dtype=torch.float64), execution=Execution(compile=mode))
        surface.side_by_side = side
        posterior = Posterior(surface, 20.0, 10.0)
        tuning = Tuning(20.0, 10.0, 0.02, friction=6.0, leaps=2)
        kernel = Stepper(posterior, scheme_for(sampler)).kernel(tuning, 4)
        streams = Streams.open(posterior, 0, 4, None if scheme_for(sampler).exact else 8)
        runs.append(advance(kernel, kernel.init(posterior.start(4)), streams, 12)[1])
    for other in runs[1:]:
        for one, two in zip(runs[0], other, strict=True):
            np.testing.assert_allclose(two, one, rtol=1e-8, atol=1e-10)


# --- inductor ------------------------------------------------------------------------------------


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")


def whole_state():
    return process_state(), list(warnings.filters), torch.get_num_interop_threads()


@pytest.mark.slow
def test_compiled_steps_agree_and_leave_the_process_as_it_was(compiler):
    llc.estimate(task(), compile="trace", **settings_of("kinetic"))  # first imports are done
    given = settings_of("kinetic", step_size=0.02)
    plain = llc.estimate(task(), compile="off", **given)
    before = whole_state()
    found = llc.estimate(task(), compile="inductor", **given)
    assert whole_state() == before
    assert found.execution.endswith("inductor")
    np.testing.assert_allclose(found.trace, plain.trace, rtol=1e-3, atol=1e-4)


def test_long_runs_go_on_to_compile_by_counts_alone(monkeypatch):
    # The compiler itself is left out: what it would compile is replayed.
    monkeypatch.setattr(compiled._Recording, "fused", property(lambda recording: recording.replay))
    monkeypatch.setattr(compiled, "COMPILING", 1e-6)
    given = settings_of("kinetic", step_size=0.02)
    for _ in range(2):
        by_itself = llc.estimate(task(), compile="auto", **given)
        assert by_itself.execution.endswith("inductor")
    plain = llc.estimate(task(), compile="off", **given)
    assert by_itself.trace.tobytes() == plain.trace.tobytes()


@pytest.mark.parametrize("mode", ["auto", "inductor"])
def test_without_a_compiler_a_recording_serves_and_says_so(monkeypatch, mode):
    def fail(_recording):
        raise RuntimeError("no compiler on this machine")

    monkeypatch.setattr(compiled._Recording, "fused", property(fail))
    monkeypatch.setattr(compiled, "COMPILING", 1e-6)
    found = llc.estimate(task(), compile=mode, **settings_of("kinetic", step_size=0.02))
    assert "trace; not compiled: RuntimeError: no compiler" in found.execution
    assert found.execution.count("not compiled") == 1


def test_compiled_values_that_differ_are_not_used(monkeypatch):
    def wrong(recording):
        return lambda *tensors: tuple(1.01 * part for part in recording.replay(*tensors))

    monkeypatch.setattr(compiled._Recording, "fused", property(wrong))
    given = settings_of("kinetic", step_size=0.02)
    found = llc.estimate(task(), compile="inductor", **given)
    assert "not compiled: ValueError" in found.execution
    plain = llc.estimate(task(), compile="off", **given)
    assert found.trace.tobytes() == plain.trace.tobytes()


def test_a_recorded_run_leaves_the_process_as_it_was():
    llc.estimate(task(), compile="off", **settings_of("kinetic"))  # first imports are done
    for mode in ("trace", "auto"):
        before = whole_state()
        llc.estimate(task(3), compile=mode, **settings_of("kinetic"))
        assert whole_state() == before


# --- what cannot be recorded ---------------------------------------------------------------------


class Branches(nn.Linear):
    """Looks at its inputs to decide what to do."""

    def forward(self, inputs):
        outputs = super().forward(inputs)
        return outputs if inputs.sum() > 0 else 2 * outputs


class BranchesOnWeights(nn.Linear):
    def forward(self, inputs):
        outputs = super().forward(inputs)
        return outputs if self.weight.sum() > 0 else 2 * outputs


def squares(outputs, targets):
    return ((outputs - targets) ** 2).mean(1)


def looks(outputs, targets):
    values = squares(outputs, targets)
    return values if values.mean().item() < 1 else 1.5 * values


def mean_of_some(model, batch):
    # As with masks, padding and ignored labels: batches differ in what is left of them.
    inputs, targets, keep = batch
    return squares(model(inputs), targets)[keep].mean()


def share_of_some(model, batch):
    inputs, targets, keep = batch
    values = squares(model(inputs), targets)
    return (values * keep).sum() / max(len(keep.nonzero()), 1)


def counted(model, batch):
    inputs, targets, keep = batch
    values = squares(model(inputs), targets)
    return (values * keep).sum() / max(int(keep.sum()), 1)


def masked(loss):
    keep = torch.rand(EXAMPLES, generator=torch.Generator().manual_seed(4)) > 0.4
    return llc.Task(linear(), (*real_valued(EXAMPLES), keep), batch_loss=loss)


def with_model(kind, loss=squares):
    model = kind(3, 2)
    model.load_state_dict(linear().state_dict())
    return llc.Task(model, real_valued(EXAMPLES), loss)


UNRECORDABLE = {
    "branch on data": lambda: with_model(Branches),
    "branch on weights": lambda: with_model(BranchesOnWeights),
    "loss that looks": lambda: with_model(nn.Linear, looks),
    "count of a mask": lambda: masked(counted),
}


@pytest.mark.parametrize(
    ("sampler", "case"), [("malt", "branch on weights"), *(("kinetic", x) for x in UNRECORDABLE)]
)
def test_what_cannot_be_recorded_runs_as_it_is_and_says_so(sampler, case):
    given = settings_of(sampler)
    plain = llc.estimate(UNRECORDABLE[case](), compile="off", **given)
    found = llc.estimate(UNRECORDABLE[case](), **given)
    assert found.trace.tobytes() == plain.trace.tobytes()
    # The sentence is torch's own, which names the operation that looked at a value.
    assert "off; not recorded: RuntimeError: " in found.execution
    assert "_local_scalar_dense" in found.execution
    assert found.vectorised is False
    assert "cannot be vectorised" in found.execution


@pytest.mark.parametrize("loss", [mean_of_some, share_of_some])
@pytest.mark.parametrize("batch_size", [8, None])
def test_shapes_that_depend_on_the_batch(loss, batch_size):
    # A number of rows read from a shape is a Python number: a recording would keep the first.
    given = {**FAST, "batch_size": batch_size, "n_beta": 20.0}
    plain = llc.estimate(masked(loss), compile="off", **given)
    found = llc.estimate(masked(loss), **given)
    assert found.trace.tobytes() == plain.trace.tobytes()


def test_rises_of_batches_with_other_shapes_inside():
    rises = {}
    for mode in ("off", "trace"):
        surface = LossSurface(masked(share_of_some), execution=Execution(compile=mode))
        surface.side_by_side = 1
        delta = 0.1 * torch.ones(1, surface.layout.total)
        index = torch.randint(EXAMPLES, (20, 1, 8), generator=torch.Generator().manual_seed(0))
        rises[mode] = torch.cat([surface.evaluate(delta, row).rise for row in index])
    assert torch.equal(rises["trace"], rises["off"])


# --- Compiled itself -----------------------------------------------------------------------------


def test_a_function_that_changes_from_call_to_call_is_not_recorded():
    counter = itertools.count()
    function = Compiled(lambda x: (x + next(counter),), "trace")
    first, second = (function(torch.zeros(2))[0] for _ in range(2))
    assert (second - first).tolist() == [1, 1]
    assert function.how == "off"
    assert "changes from call to call" in function.notes[0]


def test_each_set_of_shapes_kinds_and_absences_has_a_program_of_its_own():
    def function(x, y):
        return (x * len(x) + (0 if y is None else y.sum()),)

    program = Compiled(function, "trace")
    long, short = torch.arange(3.0), torch.arange(2.0)
    for _ in range(2):
        for x, y in itertools.product((long, short, long.double()), (None, long, short)):
            assert torch.equal(program(x, y)[0], function(x, y)[0])
            assert program(x, y)[0].dtype == function(x, y)[0].dtype
    assert program.how == "trace"
    assert program.notes == []


def test_a_function_that_fails_fails_as_it_does_by_itself():
    def function(x):
        raise KeyError("of its own")

    program = Compiled(function, "trace")
    for _ in range(2):
        with pytest.raises(KeyError, match="of its own"):
            program(torch.zeros(2))


def test_inputs_and_outputs_are_tensors_of_their_own():
    program = Compiled(lambda x: (2 * x, x + 1), "trace")
    given = torch.ones(3)
    first = program(given)
    kept = [t.clone() for t in first]
    program(torch.full((3,), 7.0))
    assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))
    assert torch.equal(given, torch.ones(3))
    assert not any(t.requires_grad for t in first)


@pytest.mark.parametrize("mode", ["nonsense", "", None, "Trace"])
def test_ways_to_compile_that_do_not_exist_are_refused(mode):
    message = refusal(lambda: llc.estimate(task(), compile=mode, **FAST))
    for name in ("auto", "off", "trace", "inductor"):
        assert name in message


# --- memory --------------------------------------------------------------------------------------


def memory_for(side, chains, batch_size=8):
    """GiB in which just so many chains fit side by side."""
    vectors, kept = chain_bytes(LossSurface(task(dtype=torch.float64))._objective, batch_size)
    return (chains * vectors + 2 * (side + 0.5) * kept) / GIB


@pytest.mark.parametrize(
    ("sampler", "side"), [("kinetic", 1), ("kinetic", 2), ("sgld-rmsprop", 4), ("malt", 3)]
)
def test_chains_in_chunks_give_the_same_draws(sampler, side):
    given = settings_of(sampler, chains=5, step_size=0.02, draws=20, burn_in=10)
    whole = llc.estimate(task(dtype=torch.float64), **given)
    limit = memory_for(side, 5, given["batch_size"])
    parts = llc.estimate(task(dtype=torch.float64), memory=limit, **given)
    assert whole.execution.startswith("all 5 chains side by side")
    assert parts.execution.startswith(f"{side} of 5 chains side by side")
    assert "free for activations" in parts.execution
    assert parts.execution.endswith("trace")
    np.testing.assert_allclose(parts.trace, whole.trace, rtol=1e-7, atol=1e-9)
    assert parts.gradient_evaluations == whole.gradient_evaluations


def test_far_too_little_memory_still_runs_one_chain_at_a_time():
    found = llc.estimate(task(), memory=1e-12, **FAST)
    assert found.execution.startswith("1 of 2 chains side by side")
    assert found.vectorised is True
    assert np.isfinite(found.llc)


def test_control_variates_in_chunks_agree():
    given = settings_of("kinetic", chains=4, step_size=0.02, draws=20, control_variate=True)
    whole = llc.estimate(task(dtype=torch.float64), **given)
    parts = llc.estimate(task(dtype=torch.float64), memory=memory_for(3, 4), **given)
    assert parts.execution.startswith("3 of 4")
    np.testing.assert_allclose(parts.trace, whole.trace, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("memory", [0, -1.0, float("nan"), float("inf"), "8", True, [1]])
def test_memory_that_is_no_positive_number_is_refused(memory):
    message = refusal(lambda: llc.estimate(task(), memory=memory, **FAST))
    assert "memory" in message
    assert "GiB" in message


# --- random numbers in blocks --------------------------------------------------------------------

# Rows of this length come 32, 21 and one at a time.
SIZES = (5, BLOCK // 21, BLOCK + 5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["normal", "double", "integers"])
def test_rows_of_a_chain_do_not_depend_on_its_company_nor_on_blocks(kind, size):
    def draw(streams):
        if kind == "integers":
            return streams.integers(1000, size)
        return streams.normal(size, torch.float64 if kind == "double" else torch.float32)

    count = 3 if size > BLOCK else 2 * MOST_ROWS + 3
    alone, company = NoiseStreams(7, "noise", 1), NoiseStreams(7, "noise", 4)
    seen = []
    for _ in range(count):
        one, many = draw(alone), draw(company)
        assert many.shape == (4, size)
        assert torch.equal(one, many[:1])
        seen.append(many)
    rows = torch.stack(seen).reshape(-1, size).double()
    # No row is handed out twice, within a block or over its border.
    assert len(rows[:, :5].unique(dim=0)) == len(rows)
    mean, deviation = (499.5, 288.7) if kind == "integers" else (0.0, 1.0)
    error = deviation / rows.numel() ** 0.5
    assert abs(rows.mean() - mean) < 5 * error
    assert rows.std() == pytest.approx(deviation, rel=5 / rows.numel() ** 0.5)


def test_another_size_begins_anew_and_repeats_nothing():
    streams = NoiseStreams(0, "noise", 2)
    rows = [streams.normal(size)[0, :5] for size in (5, 6, 5, 6, 5)]
    assert len(torch.stack(rows).unique(dim=0)) == 5


@pytest.mark.parametrize("batch_size", [None, 6])
def test_steps_taken_in_pieces_are_the_steps_taken_at_once(batch_size):
    posterior = posterior_of(task(), 20.0, 10.0)
    kernel = Stepper(posterior, scheme_for("kinetic")).plain(Tuning(20.0, 10.0, 0.02, 6.0))
    at_once = Streams.open(posterior, 0, 3, batch_size)
    in_pieces = Streams.open(posterior, 0, 3, batch_size)
    state, _ = advance(kernel, kernel.init(posterior.start(3)), at_once, 80)
    pieces = kernel.init(posterior.start(3))
    for steps in (1, 30, 2, 47):
        pieces, _ = advance(kernel, pieces, in_pieces, steps)
    assert all(torch.equal(a, b) for a, b in zip(state, pieces, strict=True))


def test_chain_zero_of_four_is_chain_zero_of_one_in_a_recorded_run():
    # Nothing is chosen from what all chains saw, as friction would be.
    given = settings_of("sgld-lm", step_size=0.02)
    alone, company = (
        llc.estimate(task(dtype=torch.float64), **{**given, "chains": chains}) for chains in (1, 4)
    )
    np.testing.assert_allclose(company.trace[:1], alone.trace, rtol=1e-8, atol=1e-10)


# --- half precision by autocast ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "mode"), [("kinetic", "off"), ("kinetic", "trace"), ("mala", "trace")]
)
def test_autocast_lands_within_a_few_percent(sampler, mode):
    given = {"gamma": 20.0, "n_beta": 200.0, "behavioural": True, "compile": mode}
    given |= {"chains": 16, "draws": 200, "burn_in": 80, "sampler": sampler}
    full = llc.estimate(task(), **given)
    half = llc.estimate(task(), autocast=True, **given)
    assert half.trace.tobytes() != full.trace.tobytes()
    error = (full.mcse**2 + half.mcse**2) ** 0.5
    assert error < 0.05 * full.llc
    assert abs(half.llc - full.llc) < 0.03 * full.llc + 5 * error


def test_autocast_reaches_the_model_on_every_way_to_run():
    seen = set()

    def loss(outputs, targets):
        seen.add(outputs.dtype)
        return ((outputs.float() - targets) ** 2).mean(1)

    given = llc.Task(network(), real_valued(EXAMPLES), loss)
    for side in (1, 4):
        surface = LossSurface(given, execution=Execution(compile="off", autocast=True))
        surface.side_by_side = side
        seen.clear()
        result = surface.evaluate(0.1 * torch.ones(4, surface.layout.total), None)
        assert seen == {torch.bfloat16}
        assert all(part.dtype == torch.float32 for part in result)


def test_autocast_with_a_loss_that_stays_in_half_precision():
    def loss(outputs, targets):
        return ((outputs - targets.to(outputs.dtype)) ** 2).mean(1)

    given = llc.Task(network(), real_valued(EXAMPLES), loss)
    found = llc.estimate(given, autocast=True, **FAST)
    assert np.isfinite(found.llc)


def test_autocast_ends_with_the_run():
    inputs, _ = labelled()
    llc.estimate(task(), autocast=True, **FAST)
    assert not torch.is_autocast_enabled("cpu")
    assert network()(inputs).dtype == torch.float32
