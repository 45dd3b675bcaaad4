"""Modules of every kind: an estimate, or one sentence; never a traceback or a stray warning."""

import copy
import warnings

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune
from hypothesis import HealthCheck, given, settings
from tiny import FAST, linear, real_valued, refusal
from torch import nn

import llc
from llc.private import evaluated_copy, private_copy
from llc.surface import LossSurface

COUNT = 40
MOST = 420
"""Characters of a sentence."""


def seeded(build):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def ids(high=5):
    return torch.randint(high, (COUNT,), generator=torch.Generator().manual_seed(0))


def own_outputs(model, x):
    with torch.no_grad():
        return x, model(x)


def trace_of(model, data, **more):
    return llc.estimate(model, data, "mse", **FAST, **more).trace


# --- sparse embeddings, buffers and data ---------------------------------------------------------


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_sparse_gradients_are_the_dense_ones(kind):
    rows = ids() if kind is nn.Embedding else torch.stack([ids(), ids().flip(0)], 1)
    models = [seeded(lambda sparse=sparse: kind(5, 2, sparse=sparse)) for sparse in (True, False)]
    sparse, dense = (trace_of(m, own_outputs(models[1], rows)) for m in models)
    assert sparse.tobytes() == dense.tobytes()
    assert models[0].sparse, "the user's own stays as it is"


def test_a_sparse_embedding_has_its_exact_value():
    """Each row k is a quadratic of its own, of curvature 2·(share of k)/2 in both columns."""
    table, rows = nn.Embedding(5, 2, sparse=True), ids()
    e = llc.estimate(table, own_outputs(table, rows), "mse", gamma=1.0, budget=12_000)
    bent = torch.bincount(rows, minlength=5).double() / COUNT * e.settings.n_beta
    exact = float((bent / (bent + 1)).sum())
    assert abs(e.llc - exact) < 5 * e.mcse < 1


def test_sparse_gradients_by_function_are_refused_in_words():
    class Looking(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.ones(5, 2))

        def forward(self, rows):
            return F.embedding(rows, self.table, sparse=True)

    said = refusal(lambda: trace_of(Looking(), (ids(), torch.zeros(COUNT, 2))))
    assert "give sparse=False" in said


class Graph(nn.Module):
    """One layer of a graph network, its adjacency held in one way or another."""

    def __init__(self, held):
        super().__init__()
        edges = torch.rand(6, 6, generator=torch.Generator().manual_seed(1)) < 0.4
        adjacency = edges.float() + torch.eye(6)
        self.register_buffer("nodes", torch.randn(6, 3, generator=torch.Generator().manual_seed(2)))
        if held == "attribute":
            self.adjacency = adjacency.to_sparse()
        else:
            made = {"csr": adjacency.to_sparse_csr, "coo": adjacency.to_sparse}
            self.register_buffer("adjacency", made.get(held, lambda: adjacency)())
        self.layer = seeded(lambda: nn.Linear(3, 2, bias=False))

    def forward(self, which):
        return (self.adjacency @ self.layer(self.nodes))[which]


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.parametrize("held", ["coo", "csr", "attribute"])
def test_sparse_adjacency_counts_as_the_dense_one(held, tmp_path):
    which, dense = ids(6), Graph("dense")
    data = own_outputs(dense, which)
    model = Graph(held)
    expected = torch.from_numpy(trace_of(dense, data))
    assert torch.allclose(torch.from_numpy(trace_of(model, data)), expected, rtol=0.01)
    torch.save(model.state_dict(), tmp_path / "graph.pt")
    task = llc.Task(copy.deepcopy(dense) if held == "attribute" else Graph(held), data, "mse")
    if held == "attribute":
        return
    with torch.no_grad():
        task.model.layer.weight.zero_()
    task = task.at(llc.load_weights(tmp_path / "graph.pt"))
    assert torch.equal(task.model.layer.weight, dense.layer.weight)
    assert task.model.adjacency.layout is model.adjacency.layout
    points = llc.trace(task, [(1, model.state_dict())], **FAST, out=tmp_path / "run")
    assert points.llc.tolist() == pytest.approx([float(expected.mean())], rel=0.01)


def test_sparse_and_nested_data_are_refused_in_words():
    x, y = real_valued(COUNT)
    for given_, says in (
        (x.to_sparse(), "give data.to_dense()"),
        (torch.nested.as_nested_tensor([x, x[:3]], layout=torch.jagged), "pad them"),
    ):
        said = refusal(lambda given_=given_: llc.Task(linear(), (given_, y[: len(x)]), "mse"))
        assert says in said
    weight = nn.Parameter(torch.eye(3).to_sparse())
    model = nn.Module()
    model.weight = weight
    assert "sparse parameter" in refusal(lambda: trace_of(model, (x, y)))


# --- quantised, scripted, compiled ---------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_quantised_models_are_refused_in_words():
    quantised = torch.ao.quantization.quantize_dynamic(
        nn.Sequential(nn.Linear(3, 2)), {nn.Linear}, dtype=torch.qint8
    )
    x, y = real_valued(COUNT)
    task = llc.Task(quantised, (x, y), "mse")
    assert "before quantisation" in refusal(lambda: task.at(quantised.state_dict()))
    assert "before quantisation" in refusal(lambda: trace_of(task.model, (x, y)))
    mixed = nn.Sequential(nn.Linear(3, 3), quantised)
    assert "quantised" in refusal(lambda: trace_of(mixed, (x, y)))


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("how", ["script", "trace"])
def test_scripted_modules_count_as_what_they_were(how):
    x, y = real_valued(COUNT)
    plain = linear()
    made = torch.jit.script(plain) if how == "script" else torch.jit.trace(plain, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert trace_of(made, (x, y)).tobytes() == trace_of(plain, (x, y)).tobytes()
        assert private_copy(made).weight.is_leaf


# --- muP, and forward passes that look at their parameters ---------------------------------------


class Shaped(nn.Linear):
    """Reads a shape off its weight, as muP's layers do."""

    def __init__(self):
        super().__init__(3, 2)
        self.weight.width = 3.0

    def forward(self, x):
        assert isinstance(self.weight, nn.Parameter)
        return super().forward(x) / self.weight.width


def test_parameters_keep_what_they_carry():
    shaped = seeded(Shaped)

    class Plain(nn.Linear):
        def forward(self, x):
            return super().forward(x) / 3.0

    plain = seeded(lambda: Plain(3, 2))
    data = real_valued(COUNT)
    assert trace_of(shaped, data).tobytes() == trace_of(plain, data).tobytes()
    assert private_copy(shaped).weight.width == 3.0


# --- a loss of other weights ---------------------------------------------------------------------


def test_a_loss_of_the_network_outside_is_refused_in_words(monkeypatch):
    net = linear()
    calls = (
        {"data": real_valued(COUNT), "batch_loss": lambda m, b: (net(b[0]) - b[1]).square().mean()},
        {"potential": lambda m: net.weight.square().sum(), "n_beta": 100.0},
    )
    for more in calls:
        said = refusal(lambda more=more: llc.estimate(net, **more, **FAST))
        assert "use the first argument of batch_loss or potential" in said
    # A teacher outside is no fault, though its weights ask for gradients.
    teacher = linear(1)
    e = llc.estimate(
        net,
        real_valued(COUNT),
        batch_loss=lambda m, b: (teacher(b[0]) - m(b[0])).square().mean(),
        **FAST,
    )
    assert e.llc == e.llc


# --- recurrent networks on CUDA, by inspection: no GPU here --------------------------------------


def test_recurrent_networks_on_cuda_train_without_dropout():
    """cuDNN takes no gradient of them in eval mode; without dropout both modes are the same."""
    model = nn.Sequential(nn.LSTM(3, 2, num_layers=2, dropout=0.5), nn.Dropout(0.5))
    here = evaluated_copy(model, torch.device("cpu"))
    assert not any(module.training for module in here.modules())
    assert here[0].dropout == 0.5
    there = evaluated_copy(model, torch.device("cuda"))
    assert there[0].training
    assert there[0].dropout == 0
    assert not there[1].training
    x = torch.randn(4, 5, 3)
    assert torch.equal(here[0](x)[0], there[0](x)[0])


# --- what inference mode made, and other tensors -------------------------------------------------


def test_tensors_of_inference_mode():
    with torch.inference_mode():
        model, data = linear(), tuple(part.clone() for part in real_valued(COUNT))
    assert trace_of(model, data).tobytes() == trace_of(linear(), real_valued(COUNT)).tobytes()


def test_weights_that_are_no_plain_tensors_are_named():
    class Own(torch.Tensor):
        pass

    model = linear()
    model.weight = nn.Parameter(torch.ones(2, 3).as_subclass(Own))
    assert "of type Own" in refusal(lambda: trace_of(model, real_valued(COUNT)))


# --- any kind ------------------------------------------------------------------------------------


class Called(nn.Module):
    """A linear layer whose outputs come in a wrapping, or by a detour."""

    def __init__(self, wrapped=lambda out: out):
        super().__init__()
        self.inner, self.wrapped = nn.Linear(3, 2), wrapped

    def forward(self, x):
        return self.wrapped(self.inner(x))


class Odd(nn.Module):
    """Parameters of every shape: none, one number, in containers, used twice."""

    def __init__(self):
        super().__init__()
        self.none, self.one = nn.Parameter(torch.zeros(0, 3)), nn.Parameter(torch.tensor(1.0))
        self.named = nn.ParameterDict({"w": torch.randn(3, 2)})
        self.listed = nn.ParameterList([torch.randn(2)])
        self.again = self.named["w"]

    def forward(self, x):
        return self.one * (x @ self.named["w"]) + x @ self.again + self.listed[0]


class Delegating(Called):
    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)


class Stated(nn.Linear):
    def get_extra_state(self):
        return {"version": 1}

    def set_extra_state(self, state):
        pass


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRU(3, 2, batch_first=True)

    def forward(self, x):
        return self.cell(x[:, None])[0][:, -1]


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 2, dtype=torch.complex64))

    def forward(self, x):
        return (x.to(torch.complex64) @ self.weight).abs()


class Empty(nn.Module):
    def __init__(self):
        super().__init__()
        self.none = nn.Parameter(torch.zeros(0, 2))

    def forward(self, x):
        return x[:, :2] + self.none.sum()


class Failing(nn.Linear):
    def forward(self, x):
        raise KeyError("x" * 3000)


def _expanded():
    model = nn.Linear(3, 2)
    model.weight = nn.Parameter(torch.randn(1, 3).expand(2, 3))
    return model


def _pruned():
    model = nn.Linear(3, 2)
    torch.nn.utils.prune.l1_unstructured(model, "weight", 0.5)
    return model


def _hooked():
    model = nn.Linear(3, 2)
    kept = []
    model.register_forward_hook(lambda module, given, out: kept.append(out.shape))
    return model


def _half(dtype):
    return lambda: nn.Linear(3, 2).to(dtype)


KINDS = {
    "plain": lambda: nn.Linear(3, 2),
    "tuple": lambda: Called(lambda out: (out, None)),
    "dictionary": lambda: Called(lambda out: {"logits": out}),
    "nothing": lambda: Called(lambda out: None),
    "text": lambda: Called(str),
    "short": lambda: Called(lambda out: out[:1]),
    "detached": lambda: Called(torch.Tensor.detach),
    "whole numbers": lambda: Called(lambda out: out.round().long()),
    "nan": lambda: Called(lambda out: out * float("nan")),
    "odd": Odd,
    "empty": Empty,
    "delegating": Delegating,
    "extra state": lambda: Stated(3, 2),
    "recurrent": Recurrent,
    "complex": Complex,
    "failing": lambda: Failing(3, 2),
    "lazy": lambda: nn.LazyLinear(2),
    "meta": lambda: nn.Linear(3, 2, device="meta"),
    "frozen": lambda: nn.Linear(3, 2).requires_grad_(False),
    "expanded": _expanded,
    "pruned": _pruned,
    "hooked": _hooked,
    "shaped": Shaped,
    "spectral": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2)),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)),
    "traced graph": lambda: torch.fx.symbolic_trace(nn.Linear(3, 2)),
    "batch norm": lambda: nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)),
    "parallel": lambda: nn.DataParallel(nn.Linear(3, 2)),
    "bfloat16": _half(torch.bfloat16),
    "float16": _half(torch.float16),
    "float64": _half(torch.float64),
    "float8": lambda: (
        nn.Linear(3, 2).requires_grad_(False).to(torch.float8_e4m3fn).requires_grad_()
    ),
    "no parameter": nn.Flatten,
}


def _inferred(x, y):
    with torch.inference_mode():
        return x.clone(), y.clone()


DATA = {
    "plain": lambda x, y: (x, y),
    "classes": lambda x, y: (x, ids(2)),
    "bfloat16": lambda x, y: (x.bfloat16(), y.bfloat16()),
    "float64": lambda x, y: (x.double(), y.double()),
    "inputs alone": lambda x, y: x,
    "uneven": lambda x, y: (x, y[:7]),
    "sparse": lambda x, y: (x.to_sparse(), y),
    "no dimension": lambda x, y: (x, torch.tensor(1.0)),
    "one example": lambda x, y: (x[:1], y[:1]),
    "none": lambda x, y: (x[:0], y[:0]),
    "inference": _inferred,
    "complex": lambda x, y: (x, y.to(torch.complex64)),
}


LOSSES = {
    "mse": {"loss": "mse"},
    "cross_entropy": {"loss": "cross_entropy"},
    "module": {"loss": nn.CrossEntropyLoss()},
    "batch": {"batch_loss": lambda model, batch: model(batch[0]).float().square().mean()},
    "text": {"batch_loss": lambda model, batch: "a loss"},
    "potential": {
        "potential": lambda model: sum(p.float().square().sum() for p in model.parameters()),
        "n_beta": 10.0,
    },
}
SHORT = {"gamma": 10.0, "chains": 2, "draws": 6, "burn_in": 4}


@settings(
    max_examples=250, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(
    kind=st.sampled_from(sorted(KINDS)), data=st.sampled_from(sorted(DATA)),
    loss=st.sampled_from(sorted(LOSSES)), moved=st.booleans(), behavioural=st.booleans(),
    batch=st.sampled_from([None, 8]), autocast=st.booleans(),
)  # fmt: skip
def test_an_estimate_or_a_sentence(kind, data, loss, moved, behavioural, batch, autocast):
    assert_clean(kind, data, loss, moved, behavioural, batch, autocast)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_with_ordinary_data(kind):
    assert_clean(kind, "plain", "mse", True, False, None, False)


def assert_clean(kind, data, loss, moved, behavioural, batch, autocast):
    """An estimate or one sentence of bounded length; no other exception, and no warning."""
    model = seeded(KINDS[kind])
    more = dict(LOSSES[loss])
    n_beta = more.pop("n_beta", None)
    given_ = None if loss == "potential" else DATA[data](*real_valued(COUNT))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            task = llc.Task(model, given_, **more)
            if moved:
                task = task.at(model.state_dict())
            e = llc.estimate(
                task, n_beta=n_beta, behavioural=behavioural, autocast=autocast,
                batch_size=None if loss == "potential" else batch, **SHORT,
            )  # fmt: skip
        except llc.InputError as error:
            said = str(error)
            assert 10 < len(said) < MOST, said
            assert "\n" not in said
            return
    assert isinstance(e, llc.Estimate)
    assert e.verdict.status in ("ok", "warn", "fail")


def test_a_surface_says_whether_rounding_takes_part():
    x, y = real_valued(COUNT)
    assert not LossSurface(llc.Task(linear(), (x, y), "mse")).rounds
    model = Called(lambda out: out.half().float())
    assert LossSurface(llc.Task(model, (x, y), "mse")).rounds
