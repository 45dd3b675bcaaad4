"""The gradient that chains follow is the derivative of the loss, or the user is told."""

import pytest
import torch
import torch.nn.functional as F
from test_bad_input import refusal
from torch import nn
from torch.utils.checkpoint import checkpoint

import llc
from llc.derivative import check_derivative
from llc.direct import DirectGradient
from llc.surface import LossSurface


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def surface(*args, **given):
    return LossSurface(llc.Task(*args, **given))


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, *gradients):
        return -0.5 * gradients[0]


class Adversarial(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.one, self.two = nn.Linear(3, 8), nn.Linear(8, 2), nn.Linear(8, 2)

    def forward(self, x):
        hidden = torch.tanh(self.body(x))
        return torch.cat([self.one(hidden), self.two(Reverse.apply(hidden))], 1)


class Rounded(nn.Module):
    """Straight-through: weights rounded to quarters, gradients of the weights themselves."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 1)

    def forward(self, x):
        weight = self.first.weight
        weight = weight + ((4 * weight).round() / 4 - weight).detach()
        return self.last(torch.tanh(F.linear(x, weight, self.first.bias)))


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8))
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        with torch.no_grad():
            hidden = self.body(x)
        return self.head(hidden)


class Normalised(nn.Module):
    """Statistics of a layer norm detached: a mismatch of a tenth."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 16), nn.Linear(16, 1)

    def forward(self, x):
        h = self.first(x)
        return self.last((h - h.mean(1, keepdim=True).detach()) / h.std(1, keepdim=True).detach())


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 8))
        self.predict = nn.Linear(8, 8)


def siamese(model, batch):
    one, two = model.body(batch[0]), model.body(batch[1])
    first = F.cosine_similarity(model.predict(one), two.detach())
    return -(first + F.cosine_similarity(model.predict(two), one.detach())) / 2


def temporal_difference(model, batch):
    with torch.no_grad():
        target = 0.95 * model(batch[1])
    return ((target - model(batch[0])) ** 2).mean()


def states():
    first = torch.randn(400, 3)
    return first, 0.9 * first + 0.3 * torch.randn(400, 3)


def by_sum(outputs, targets):
    return F.cross_entropy(outputs[:, :2], targets, reduction="none") + F.cross_entropy(
        outputs[:, 2:], targets, reduction="none"
    )


MISMATCHES = {
    "temporal difference": lambda: surface(
        nn.Linear(3, 1, bias=False), states(), batch_loss=temporal_difference
    ),
    "siamese": lambda: surface(Siamese(), states(), batch_loss=siamese),
    "gradient reversal": lambda: surface(
        Adversarial(), (states()[0], torch.randint(0, 2, (400,))), by_sum
    ),
    "straight-through": lambda: surface(Rounded(), (states()[0], torch.randn(400, 1)), "mse"),
    "no_grad backbone": lambda: surface(Frozen(), (states()[0], torch.randn(400, 1)), "mse"),
    "detached norm": lambda: surface(Normalised(), (states()[0], torch.randn(400, 1)), "mse"),
}


@pytest.mark.parametrize("make", MISMATCHES.values(), ids=MISMATCHES)
def test_a_detached_part_is_refused_before_sampling(make):
    message = refusal(make)
    assert "the gradient is not the derivative of the loss" in message
    assert "detach" in message


def test_the_tensors_concerned_are_named():
    message = refusal(MISMATCHES["no_grad backbone"])
    assert "furthest off in body." in message
    assert "head" not in message


class Expert(nn.Module):
    """Hard routing: the loss jumps, and has its gradient everywhere else."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(3, 4)
        self.experts = nn.ModuleList(nn.Linear(3, 2) for _ in range(4))

    def forward(self, x):
        scores = self.gate(x)
        chosen, share = scores.argmax(1), scores.softmax(1)
        parts = [(chosen == i).float() * share[:, i] for i in range(4)]
        pairs = zip(parts, self.experts, strict=True)
        return sum(part.unsqueeze(1) * expert(x) for part, expert in pairs)


def relu(width, examples):
    model = nn.Sequential(
        nn.Linear(3, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
    )
    return surface(model, (torch.randn(examples, 3), torch.randn(examples, 1)), "mse")


def convolutions():
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(8 * 16, 10),
    )  # fmt: skip
    return surface(
        model, (torch.randn(300, 1, 16, 16), torch.randint(0, 10, (300,))), "cross_entropy"
    )


def hinge(outputs, targets):
    return (1 - outputs * targets).clamp(min=0).mean(1)


HONEST = {
    "four examples": lambda: relu(8, 4),
    "many kinks": lambda: relu(64, 48),
    "convolutions": convolutions,
    "hinge": lambda: surface(
        nn.Linear(3, 1), (torch.randn(50, 3), torch.randn(50, 1).sign()), hinge
    ),
    "absolute errors": lambda: surface(
        nn.Linear(3, 1),
        (torch.randn(8, 3), torch.randn(8, 1)),
        lambda o, t: (o - t).abs().mean(1),
    ),
    "hard routing": lambda: surface(Expert(), (torch.randn(400, 3), torch.randn(400, 2)), "mse"),
    "many examples": lambda: surface(
        nn.Linear(3, 1), (torch.randn(200_000, 3), torch.randn(200_000, 1)), "mse"
    ),
    "flat": lambda: surface(nn.Linear(2, 1, bias=False), potential=lambda m: 0.0 * m.weight.sum()),
    "high powers": lambda: surface(
        nn.Linear(2, 1, bias=False), potential=lambda m: m.weight[0, 0] ** 2 * m.weight[0, 1] ** 4
    ),
}


@pytest.mark.parametrize("make", HONEST.values(), ids=HONEST)
def test_kinks_jumps_and_rounding_raise_no_alarm(make):
    make()


def test_a_padding_row_is_sampled_as_any_other():
    """Torch gives ``padding_idx`` no gradient, though the loss depends on its row."""
    ids = torch.randint(0, 5, (200, 4))

    class Words(nn.Module):
        def __init__(self, **given):
            super().__init__()
            self.words = nn.Embedding(5, 2, **given)
            self.words.weight.data = torch.randn(5, 2, generator=torch.Generator().manual_seed(1))

        def forward(self, x):
            return self.words(x).sum(1)

    y = Words()(ids).detach()
    plain, padded = (
        llc.estimate(Words(**given), (ids, y), "mse", gamma=1.0, budget=1500).llc
        for given in ({}, {"padding_idx": 0})
    )
    assert padded == plain


def test_several_seeds_raise_no_alarm():
    for seed in range(30):
        torch.manual_seed(seed)
        relu(1 + seed, 2 + seed)


def test_where_the_mismatch_shows_only_along_the_chains_the_verdict_fails(monkeypatch):
    """What the first look misses, as a branch taken further out, the last one sees."""
    monkeypatch.setattr("llc.surface.check_derivative", lambda *_: None)
    found = llc.estimate(
        nn.Linear(3, 1, bias=False), states(), batch_loss=temporal_difference, gamma=1.0, budget=800
    )
    assert found.verdict.status == "fail"
    assert llc.Reason.GRADIENT_MISMATCH in found.verdict.reasons
    assert "not the derivative" in found.verdict.sentences[0]


def test_honest_chains_are_not_accused():
    x = torch.randn(300, 3)
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 1))
    found = llc.estimate(model, (x, model(x).detach()), "mse", gamma=10.0, budget=2000)
    assert llc.Reason.GRADIENT_MISMATCH not in found.verdict.reasons


class Recomputed(nn.Module):
    """Two layers, the pass through them run again in the backward pass, or not."""

    def __init__(self, reentrant, nested=False):
        super().__init__()
        self.reentrant, self.nested = reentrant, nested
        g = torch.Generator().manual_seed(1)
        self.a, self.b = nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)
        self.a.weight.data = torch.randn(4, 3, generator=g)
        self.b.weight.data = torch.randn(2, 4, generator=g)

    def hidden(self, x):
        return torch.tanh(self.a(x))

    def body(self, x):
        if self.nested:
            return self.b(checkpoint(self.hidden, x, use_reentrant=self.reentrant))
        return self.b(self.hidden(x))

    def forward(self, x):
        if self.reentrant is None:
            return self.body(x)
        return checkpoint(self.body, x, use_reentrant=self.reentrant)


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize(
    "kind",
    [{"reentrant": False}, {"reentrant": True}, {"reentrant": True, "nested": True}],
    ids=str,
)
def test_activation_checkpoints_see_the_chains_weights(kind, mode):
    x = torch.randn(400, 3)
    y = Recomputed(None)(x).detach()

    def found(model):
        return llc.estimate(model, (x, y), "mse", gamma=10.0, budget=2000, compile=mode)

    plain, again = found(Recomputed(None)), found(Recomputed(**kind))
    assert again.llc == pytest.approx(plain.llc, rel=1e-3)
    assert again.verdict.reasons == plain.verdict.reasons


def test_a_gradient_in_parts_and_in_place_sees_them_too():
    x = torch.randn(60, 3)
    y = torch.randn(60, 2)
    plain, again = (surface(Recomputed(kind), (x, y), "mse") for kind in (None, True))
    delta = 0.3 * torch.randn(1, plain.layout.total)
    expected = plain.evaluate(delta, None).gradient
    again.part = 7
    again.side_by_side = 1
    torch.testing.assert_close(again.evaluate(delta, None).gradient, expected)
    direct = DirectGradient.of(again._objective)
    direct.evaluate(delta[0], [again._part_of(None)], 60)
    torch.testing.assert_close(direct.gradient[None], expected)


def slope_one(model, batch):
    t = batch[0].clone().requires_grad_(True)
    return (torch.autograd.grad(model(t).sum(), t, create_graph=True)[0] - 1).square().mean(1)


def test_a_differential_equation_s_residual_runs():
    """(w − 1)² of one weight, and an offset that the loss does not see: λ = ½."""
    model = nn.Linear(1, 1)
    model.weight.data.fill_(1.0)
    found = llc.estimate(model, (torch.rand(300, 1),), batch_loss=slope_one, gamma=1.0)
    n_beta, gamma = found.settings.n_beta, 1.0
    exact = 0.5 * 2 * n_beta / (2 * n_beta + gamma)
    assert abs(found.llc - exact) < 5 * found.mcse
    assert found.verdict.status == "ok"


class Force(nn.Module):
    """Minus the gradient of a quadratic energy, −(A + Aᵀ)x, by autograd in the forward pass."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.eye(2))

    def forward(self, x):
        x = x.detach().requires_grad_(True)
        energy = ((x @ self.a) * x).sum()
        return -torch.autograd.grad(energy, x, create_graph=True)[0]


class PlainForce(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.eye(2))

    def forward(self, x):
        return -x @ (self.a + self.a.T)


@pytest.mark.parametrize("behavioural", [False, True])
def test_a_force_field_is_its_plain_twin(behavioural):
    x = torch.randn(200, 2)
    y = PlainForce()(x).detach()

    def found(model):
        task = llc.Task(model, (x, y), "mse", readings={"test": (x, y)})
        return llc.estimate(task, behavioural=behavioural, gamma=1.0, draws=300, burn_in=100)

    plain, forced = found(PlainForce()), found(Force())
    assert forced.llc == pytest.approx(plain.llc, rel=1e-3)


def test_an_inner_step_of_training_runs():
    """MAML: gradients with respect to the weights, inside the loss."""

    def loss(model, batch):
        x, y = batch
        inner = ((model(x[:5]) - y[:5]) ** 2).mean()
        slopes = torch.autograd.grad(inner, list(model.parameters()), create_graph=True)
        moved = [p - 0.1 * s for p, s in zip(model.parameters(), slopes, strict=True)]
        return ((F.linear(x, *moved) - y) ** 2).mean(1)

    model, x = nn.Linear(2, 1), torch.randn(200, 2)
    found = llc.estimate(model, (x, model(x).detach()), batch_loss=loss, gamma=1.0, budget=4000)
    assert abs(found.llc - 1.5) < 5 * found.mcse + 0.05


def test_a_reading_may_differentiate():
    model, x = Force(), torch.randn(50, 2)
    task = llc.Task(model, (x, model(x).detach()), "mse", readings={"test": (x, model(x).detach())})
    run = llc.trace(
        task, [(0, {"a": torch.eye(2)})], gamma=1.0, draws=40, burn_in=40, behavioural=True
    )
    assert run.column("test_loss")[0] == pytest.approx(0.0, abs=1e-10)


def test_the_check_costs_little():
    """At most 256 examples and some twenty passes: below the cost of ten gradients of 512."""
    seen = [0]

    def loss(outputs, targets):
        seen[0] += len(outputs)
        return ((outputs - targets) ** 2).mean(1)

    x, model = torch.randn(2000, 3), nn.Linear(3, 1)
    looked = LossSurface(llc.Task(model, (x, model(x).detach()), loss))
    seen[0] = 0
    check_derivative(looked._objective, looked._gradient_of)
    assert 0 < seen[0] <= 10 * 512


def test_ordinary_losses_are_taken_without_a_graph():
    objective = surface(nn.Linear(3, 1), (torch.randn(9, 3), torch.randn(9, 1)), "mse")._objective
    assert not objective.differentiates
    assert surface(
        nn.Linear(1, 1), (torch.rand(9, 1),), batch_loss=slope_one
    )._objective.differentiates
