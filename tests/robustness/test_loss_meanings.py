"""A loss is what its name says: held against plain twins, closed forms and another sampler."""

import copy
import functools
import math

import pytest
import torch
import torch.nn.functional as F
from reference_mala import rise_and_error
from tiny import FAST, refusal, rlct
from torch import nn

import llc
from llc.estimation.sketch import outputs_sketch
from llc.language import huggingface
from llc.losses import over_kept, resolve
from llc.objective import Objective
from llc.planting import relabel
from llc.planting.fitted import Fitted
from llc.trajectory.readings import measure_readings

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(300, 3, generator=DRAW)
LABELS = torch.randint(0, 3, (300,), generator=DRAW)
FEW = torch.where(torch.rand(300, generator=DRAW) < 0.3, LABELS, -100)
"""Three of ten have a label."""
IDS = torch.randint(0, 5, (120, 4), generator=DRAW)
SQUARE = torch.randint(0, 4, (60, 4), generator=DRAW)
"""As many positions as words."""


def seeded(make, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def linear(outputs=3):
    return seeded(lambda: nn.Linear(3, outputs))


class Then(nn.Module):
    """A model with something done to its outputs."""

    def __init__(self, inner, last):
        super().__init__()
        self.inner, self.last = inner, last

    def forward(self, inputs):
        return self.last(self.inner(inputs))


class Raw(nn.Module):
    """Logits (batch, positions, words), as language models give them."""

    def __init__(self, words=5):
        super().__init__()
        self.embed, self.out = nn.Embedding(words, 4), nn.Linear(4, words)

    def forward(self, ids):
        return self.out(torch.tanh(self.embed(ids)))


def raw(words=5):
    return seeded(lambda: Raw(words))


def in_front(model):
    return Then(model, lambda outputs: outputs.movedim(-1, 1))


def estimate(model, data, loss="cross_entropy", **given):
    return llc.estimate(model, data, loss, **{**FAST, "compile": "off", **given})


def agree(found, truth, error, wrong=None):
    """Five standard errors; with what a fault would give out of reach."""
    spread = math.hypot(found.mcse, error)
    assert found.verdict.status != "fail", found.verdict.sentences
    assert abs(found.llc - truth) < 5 * spread, (found, truth, error)
    assert spread < 0.06 * truth
    assert wrong is None or abs(wrong - truth) > 10 * spread


# Where the classes are.


@pytest.mark.parametrize("loss", ["cross_entropy", "cross_entropy_by_example", F.cross_entropy])
@pytest.mark.parametrize("behavioural", [False, True])
def test_a_language_models_logits_are_taken_as_they_are(loss, behavioural):
    masked = IDS.masked_fill(IDS == 3, -100)
    for targets in (IDS, masked):
        given = {"loss": loss, "behavioural": behavioural, "n_beta": 200.0}
        found = estimate(raw(), (IDS, targets), **given)
        twin = estimate(in_front(raw()), (IDS, targets), **given)
        assert (found.llc, found.baseline, found.chance) == (twin.llc, twin.baseline, twin.chance)
        assert found.chance == math.log(5)
        assert (found.verdict.readings) == (twin.verdict.readings)


def test_where_own_outputs_are_not_kept_the_classes_are_found_too(monkeypatch):
    monkeypatch.setattr(llc.objective, "MOST_OUTPUTS", 0)
    twin = estimate(in_front(raw()), (IDS, IDS), behavioural=True)
    assert estimate(raw(), (IDS, IDS), behavioural=True).llc == twin.llc


def test_pictures_with_their_channels_last():
    pictures = torch.randn(40, 1, 4, 6, generator=torch.Generator().manual_seed(1))
    labels = pictures[:, 0].gt(0).long()
    net = seeded(lambda: nn.Conv2d(1, 2, 1))
    last = Then(copy.deepcopy(net), lambda outputs: outputs.movedim(1, -1))
    found, twin = (estimate(model, (pictures, labels)).llc for model in (last, net))
    assert found == pytest.approx(twin, rel=1e-4)


def test_whatever_else_reads_outputs_finds_the_classes():
    readings = []
    for model in (raw(), in_front(raw())):
        task = llc.Task(model, (IDS, IDS), "cross_entropy", readings={"test": (IDS[:9], IDS[:9])})
        found = measure_readings(task, llc.Settings(), {})
        readings.append(found)
    assert readings[0] == readings[1]
    assert {"test_accuracy", "train_accuracy"} <= set(readings[0])
    changed = [
        relabel(llc.Task(model, (IDS, IDS), "cross_entropy"), 5).data[1]
        for model in (raw(), in_front(raw()))
    ]
    assert torch.equal(*changed)
    assert changed[0].max() < 5


def test_curvature_and_rank_find_the_classes():
    tasks = [llc.Task(m, (IDS, IDS), "cross_entropy") for m in (raw(), in_front(raw()))]
    for behavioural in (False, True):
        sizes = [
            llc.curvature(t, n_beta=20.0, gamma=1.0, behavioural=behavioural).effective_dimension()
            for t in tasks
        ]
        assert sizes[0] == pytest.approx(sizes[1], rel=1e-5)
    # Five words, each with as many outputs as there are words, up to a constant.
    ranks = [
        torch.linalg.matrix_rank(outputs_sketch(Objective(t)).double(), rtol=1e-5) for t in tasks
    ]
    assert [int(rank) for rank in ranks] == [20, 20]


def kl(model, dimension):
    """The behavioural loss by hand, with the classes in a dimension."""
    own = F.log_softmax(model.double()(SQUARE), dimension).detach()
    return lambda call: (
        (own.exp() * (own - F.log_softmax(call(SQUARE), dimension))).sum(dimension).mean()
    )


def test_as_many_positions_as_classes_are_asked_about_and_the_answers_are_right():
    words = nn.Embedding(4, 4)
    words.weight.data = 3 * torch.eye(4)
    for name in ("cross_entropy", "cross_entropy_by_example"):
        for behavioural in (True, False):
            message = refusal(
                lambda n=name, b=behavioural: estimate(words, (SQUARE, SQUARE), n, behavioural=b)
            )
            said = ("(8, 4, 4)", "(8, 4)", "dimension 1 or last", "functional.cross_entropy",
                    ".movedim(-1, 1)")  # fmt: skip
            assert [word for word in said if word not in message] == []
    last, first = (
        rise_and_error(copy.deepcopy(words), kl(copy.deepcopy(words), d), 60.0, 1.0, steps=1500)
        for d in (-1, 1)
    )
    given = {"behavioural": True, "gamma": 1.0, "n_beta": 60.0, "precision": 0.02}
    for model, truth, wrong in ((words, first, last), (in_front(words), last, first)):
        found = llc.estimate(model, (SQUARE, SQUARE), F.cross_entropy, **given)
        agree(found, *truth, wrong[0])
        module = estimate(model, (SQUARE, SQUARE), nn.CrossEntropyLoss())
        assert module.llc == estimate(model, (SQUARE, SQUARE), F.cross_entropy).llc


def test_as_many_classes_as_sides_of_a_picture():
    pictures = torch.randn(20, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    net, labels = seeded(lambda: nn.Conv2d(1, 3, 1)), pictures[:, 0].gt(0).long()
    assert "dimension 1 or last" in refusal(lambda: estimate(net, (pictures, labels)))
    assert estimate(net, (pictures, labels), F.cross_entropy).chance == math.log(3)
    # One side alone, or the batch alone: torch's meaning is the only one.
    for shape in ((20, 1, 3, 5), (20, 1, 5, 3), (3, 1, 4, 5)):
        pictures = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        data = (pictures, pictures[:, 0].gt(0).long())
        found, plain = estimate(net, data), estimate(net, data, F.cross_entropy)
        assert found.llc == plain.llc


def test_language_models_of_huggingface_say_where_their_classes_are():
    ids = torch.randint(0, 5, (60, 6), generator=torch.Generator().manual_seed(2))
    for weighting in ("token", "sequence"):
        task = huggingface.task(raw(), ids, weighting=weighting)
        assert task.data[0].shape[1] == 5
        found = llc.estimate(task, behavioural=True, **FAST)
        # The same with a word that never comes, so that nothing is ambiguous.
        assert found.chance == math.log(5)
    own = llc.estimate(huggingface.task(raw(), ids), **FAST)
    twin = estimate(
        raw(), (ids[:, :-1], ids[:, 1:]),
        lambda o, t: F.cross_entropy(o.flatten(0, 1), t.flatten(), reduction="none")
        .reshape(t.shape).mean(1),
    )  # fmt: skip
    assert own.llc == pytest.approx(twin.llc, rel=1e-4)


def test_soft_targets_with_their_classes_last():
    soft = torch.softmax(torch.randn(30, 4, 5, generator=torch.Generator().manual_seed(3)), -1)
    message = refusal(lambda: estimate(raw(), (IDS[:30], soft)))
    assert all(word in message for word in ("last dimension", "targets.movedim(-1, 1)"))
    moved = (IDS[:30], soft.movedim(-1, 1))
    assert estimate(in_front(raw()), moved).chance == math.log(5)


# Outputs that are no logits.


class Softmax(nn.Module):
    def __init__(self, inner, dimension=1):
        super().__init__()
        self.inner, self.dimension = inner, dimension

    def forward(self, inputs):
        return self.inner(inputs).softmax(self.dimension)


def softened():
    return Softmax(linear())


PROBABILITIES = {
    "by name": (softened, (X, LABELS), "cross_entropy"),
    "by function": (softened, (X, LABELS), F.cross_entropy),
    "by module": (softened, (X, LABELS), nn.CrossEntropyLoss()),
    "soft targets": (softened, (X, F.one_hot(LABELS).float()), "cross_entropy"),
    "few labels": (softened, (X, FEW), "cross_entropy"),
    "in half precision": (
        lambda: softened().bfloat16(), (X.bfloat16(), LABELS), "cross_entropy"
    ),
    "certain": (lambda: Then(softened(), lambda o: o), (100 * X, LABELS), "cross_entropy"),
    "of a language model": (lambda: Softmax(raw(), -1), (IDS, IDS), "cross_entropy"),
    "of a picture's points": (
        lambda: Softmax(seeded(lambda: nn.Conv2d(1, 2, 1))),
        (torch.ones(9, 1, 4, 6), torch.ones(9, 4, 6).long()), "cross_entropy",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "data", "loss"), PROBABILITIES.values(), ids=PROBABILITIES)
@pytest.mark.parametrize("behavioural", [False, True])
def test_probabilities_are_no_logits(make, data, loss, behavioural):
    message = refusal(lambda: estimate(make(), data, loss, behavioural=behavioural))
    assert all(word in message for word in ("probabilities already", "logits", "log_softmax"))


def test_what_only_looks_like_probabilities_is_let_be():
    eye = nn.Linear(3, 3)
    eye.weight.data, eye.bias.data = torch.eye(3), torch.zeros(3)
    one_hot = F.one_hot(LABELS).float()
    assert estimate(eye, (one_hot, LABELS)).chance == math.log(3)
    flat = nn.Linear(3, 2)
    flat.weight.data.zero_()
    flat.bias.data.fill_(0.5)
    assert estimate(flat, (X, LABELS.clamp(max=1))).chance == math.log(2)
    # Probabilities' logarithms are as good as logits: the same number.
    logs, plain = Then(linear(), lambda o: o.log_softmax(1)), linear()
    for behavioural in (False, True):
        found, twin = (estimate(m, (X, LABELS), behavioural=behavioural).llc for m in (logs, plain))
        assert found == pytest.approx(twin, rel=1e-3)


def test_a_softmax_that_is_meant_twice_can_be_had():
    loss = functools.partial(lambda o, t: F.cross_entropy(o, t, reduction="none"))
    assert estimate(softened(), (X, LABELS), loss).baseline > 0.5


@pytest.mark.parametrize("targets", [LABELS.clamp(max=1), LABELS[:, None].clamp(max=1).float()])
@pytest.mark.parametrize("loss", ["cross_entropy", nn.CrossEntropyLoss()])
def test_one_class_is_no_class(targets, loss):
    message = refusal(lambda: estimate(linear(1), (X, targets), loss))
    assert all(word in message for word in ("(8, 1)", "one class", "always 0", "BCEWithLogits"))
    # What the sentence says works.
    binary = LABELS[:, None].clamp(max=1).float()
    found = estimate(linear(1), (X, binary), nn.BCEWithLogitsLoss(), n_beta=50.0)
    assert found.llc != 0


# Targets that are ignored, and such as are no classes.


def fitted():
    """A minimum of the cross-entropy over the labels kept."""
    model = linear()
    optimiser = torch.optim.LBFGS(model.parameters(), max_iter=100)

    def close():
        optimiser.zero_grad()
        loss = F.cross_entropy(model(X), FEW)
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(close)
    return model


IGNORING = {
    "255": (255, lambda: nn.CrossEntropyLoss(ignore_index=255)),
    "-1": (-1, lambda: nn.CrossEntropyLoss(ignore_index=-1)),
    "a class": (0, lambda: nn.CrossEntropyLoss(ignore_index=0)),
    "partial": (255, lambda: functools.partial(F.cross_entropy, ignore_index=255)),
}


@pytest.mark.parametrize(("value", "loss"), IGNORING.values(), ids=IGNORING)
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_another_value_is_ignored_as_that_of_torch_is(value, loss, dtype):
    here, there = X, FEW
    if value == 0:
        there = torch.where(LABELS == 0, -100, LABELS)
    if dtype == torch.uint8 and value < 0:
        pytest.skip("uint8 has no value below 0")
    marked = torch.where(there == -100, value, there).to(dtype)
    for given in ({}, {"batch_size": 8, "step_size": 0.02}, {"behavioural": True}):
        found = estimate(linear(), (here, marked), loss(), **given)
        twin = estimate(linear(), (here, there), "cross_entropy", **given)
        assert (found.llc, found.baseline) == (twin.llc, twin.baseline)
    assert found.chance == math.log(3)


def test_few_labels_give_the_value_of_another_sampler_whatever_the_batch():
    model, n_beta = fitted(), 60.0
    inputs = X.double()
    truth, error = rise_and_error(
        copy.deepcopy(model), lambda call: F.cross_entropy(call(inputs), FEW), n_beta, 1.0,
        steps=1500,
    )  # fmt: skip
    marked, given = torch.where(FEW == -100, 255, FEW), {"n_beta": n_beta, "gamma": 1.0}
    loss = nn.CrossEntropyLoss(ignore_index=255)
    agree(llc.estimate(model, (X, marked), loss, budget=40000, **given), truth, error)
    small = llc.estimate(model, (X, marked), loss, batch_size=100, budget=80000, **given)
    agree(small, truth, error)


@pytest.mark.parametrize(
    "options",
    [{"weight": torch.tensor([1.0, 3.0, 0.5])}, {"label_smoothing": 0.2},
     {"weight": torch.tensor([1.0, 3.0, 0.5]), "label_smoothing": 0.2}],
    ids=["weights", "smoothed", "both"],
)  # fmt: skip
@pytest.mark.parametrize("value", [255, -100])
def test_weights_and_smoothing_beside_ignored_targets(options, value):
    marked, model = torch.where(FEW == -100, value, FEW), linear()
    given = {**options, "ignore_index": value}
    for loss in (nn.CrossEntropyLoss(**given), functools.partial(F.cross_entropy, **given)):
        known = over_kept(resolve(loss), marked)
        with torch.no_grad():
            mean = F.cross_entropy(model(X), marked, **given).item()
            assert known.function(model(X), marked).mean().item() == pytest.approx(mean, rel=1e-5)
        # Batches of three hold no label one time in three, and torch's mean is nan there.
        found = estimate(model, (X, marked), loss, batch_size=3, step_size=0.02)
        assert found.baseline == pytest.approx(mean, rel=1e-5)
        assert math.isfinite(found.llc)


def test_without_ignored_targets_a_users_loss_is_left_alone():
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
    assert over_kept(resolve(loss), LABELS).function is loss
    none = nn.CrossEntropyLoss(ignore_index=255, reduction="none")
    assert resolve(none).function is none
    task = llc.Task(linear(), (X, LABELS), nn.CrossEntropyLoss(ignore_index=255))
    assert task.data[1] is LABELS


def test_readings_ignore_the_same_value():
    marked = torch.where(FEW == -100, 255, FEW)
    rows = []
    for targets, loss in ((marked, nn.CrossEntropyLoss(ignore_index=255)), (FEW, "cross_entropy")):
        task = llc.Task(linear(), (X, targets), loss, readings={"test": (X[:50], targets[:50])})
        rows.append(measure_readings(task, llc.Settings(), {}))
    assert rows[0] == rows[1]


WRONG = {
    "-1": (torch.where(FEW == -100, -1, FEW), ["hold -1,", "write -100", "ignore_index=-1)"]),
    "255": (torch.where(FEW == -100, 255, FEW), ["hold 255,", "write -100", "ignore_index=255)"]),
    "255 in bytes": (torch.where(FEW == -100, 255, FEW).to(torch.uint8), ["ignore_index=255)"]),
    "from 1": (LABELS + 1, ["hold 3,", "3 classes, 0 to 2", "targets - 1"]),
    "more classes": (LABELS + 2, ["hold 3, 4,", "3 classes, 0 to 2", "from 0 to 2"]),
    "many": (torch.arange(300), ["hold 3, 4, 5, …,"]),
    "one-hot": (F.one_hot(LABELS), ["(300, 3)", "one-hot", "targets.argmax(1)"]),
    "a column": (LABELS[:, None], ["(300, 1)", "(300,)", "targets.squeeze(1)"]),
}


@pytest.mark.parametrize(("targets", "words"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("loss", ["cross_entropy", nn.CrossEntropyLoss()])
def test_targets_that_are_no_classes_are_named(targets, words, loss):
    message = refusal(lambda: estimate(linear(), (X, targets), loss))
    assert [word for word in words if word not in message] == []
    assert len(message) < 250


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8, torch.bool])
def test_classes_of_every_kind_of_number(dtype):
    two = LABELS.clamp(max=1)
    for behavioural in (False, True):
        found, twin = (
            estimate(linear(), (X, targets), behavioural=behavioural).llc
            for targets in (two.to(dtype), two)
        )
        assert found == twin


# Squares.


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
@pytest.mark.parametrize("behavioural", [False, True])
def test_whole_numbers_are_real_numbers_under_squares(dtype, behavioural):
    targets = LABELS[:, None].to(dtype)
    model = linear(1)
    found, twin = (
        estimate(model, (X, t), "mse", behavioural=behavioural, n_beta=50.0)
        for t in (targets, targets.float())
    )
    assert (found.llc, found.chance) == (twin.llc, twin.chance)
    assert Fitted(llc.Task(model, (X, targets), "mse"), None).below > 0


def closed(model, n_beta, gamma):
    """Half the share of each direction that the loss holds, of a linear model under squares."""
    inputs = torch.cat([X, torch.ones(len(X), 1)], 1).double()
    curvature = torch.linalg.eigvalsh(2 * inputs.mT @ inputs / len(X))
    return (n_beta * curvature / (n_beta * curvature + gamma)).sum().item() / 2


def test_whole_numbers_give_the_closed_form():
    inputs = torch.cat([X, torch.ones(300, 1)], 1)
    targets = torch.randint(0, 5, (300, 1), generator=torch.Generator().manual_seed(4))
    solved = torch.linalg.lstsq(inputs, targets.float()).solution
    model = nn.Linear(3, 1)
    model.weight.data, model.bias.data = solved[:3].mT.clone(), solved[3].clone()
    found = llc.estimate(model, (X, targets), "mse", gamma=1.0, budget=40000)
    agree(found, closed(model, found.settings.n_beta, 1.0), 0.0)


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_constant_targets_leave_nothing_to_be_learnt_and_no_model_to_leave(value):
    model = nn.Linear(3, 1)
    model.weight.data.zero_()
    model.bias.data.fill_(value)
    for behavioural in (False, True):
        found = llc.estimate(
            model, (X, torch.full((300, 1), value)), "mse", gamma=1.0, budget=40000,
            behavioural=behavioural,
        )  # fmt: skip
        assert found.chance == 0
        assert found.verdict.reasons == ()
        agree(found, closed(model, found.settings.n_beta, 1.0), 0.0)
    task = llc.Task(model, (X, torch.full((300, 1), value)), "mse")
    assert "left the model" not in llc.scale_curve(task, gammas=[10.0, 1.0]).stopped


# Loss or gradient no number.


def mean_of_some(outputs, targets):
    return F.cross_entropy(outputs, targets, ignore_index=-100)


def own_model(value):
    model = nn.Linear(3, 1, bias=False)
    model.weight.data.fill_(value)
    return model


NAN = {
    "a batch of none": (
        lambda: estimate(linear(), (X, FEW), mean_of_some, batch_size=8),
        ["loss of a batch of 8 examples is nan at w*", "over all data it is", "larger batch_size"],
    ),
    "a batch of none, the step found": (
        lambda: llc.estimate(
            linear(), (X, FEW), mean_of_some, batch_size=8, budget=3000
        ),
        ["loss of a batch of 8 examples is nan at w*"],
    ),
    "a rare batch of none": (
        lambda: estimate(
            linear(), (X, FEW), mean_of_some, batch_size=14, draws=2000
        ),
        ["loss of a batch of 14 examples is nan at w*"],
    ),
    "the norm of nothing": (
        lambda: estimate(
            own_model(0.0), (X,), None, batch_loss=lambda m, b: m(b[0]).square().sum().sqrt()
        ),
        ["gradient of the loss over all data is nan at w*", "the loss is finite"],
    ),
    "the norm of nothing, by example": (
        lambda: llc.estimate(
            own_model(0.0), (X,), batch_loss=lambda m, b: m(b[0]).norm(dim=1) + m(b[0])[:, 0].sqrt()
        ),
        ["gradient of the loss over all data is nan at w*"],
    ),
    "a root, exactly sampled": (
        lambda: estimate(
            own_model(0.0), (X,), None, sampler="mala", step_size=0.1,
            batch_loss=lambda m, b: m(b[0]).square().sum().sqrt(),
        ),
        ["gradient of the loss over all data is nan at w*"],
    ),
    "a potential": (
        lambda: llc.estimate(
            own_model(0.0), potential=lambda m: m.weight.square().sum().sqrt(), n_beta=50.0
        ),
        ["gradient of the loss is nan at w*"],
    ),
    "an example at w*": (
        lambda: estimate(linear(), (X, X), lambda o, t: (o - t).square().sum(1) + t[:, 0].log()),
        ["is nan for", "of 300 examples", "example"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "words"), NAN.values(), ids=NAN)
def test_what_is_nan_at_w_is_said_before_sampling(call, words):
    message = refusal(call)
    assert [word for word in words if word not in message] == []
    assert "step" not in message


@pytest.mark.parametrize("given", [{}, {"step_size": 0.05, "burn_in": 30, "draws": 60}])
def test_what_is_nan_near_w_is_not_blamed_on_the_step(given):
    """A logarithm whose argument changes its sign within the chains' reach."""
    model = own_model(0.3)

    def loss(m, batch):
        return (m(batch[0])[:, 0] - 0.3 * batch[0].sum(1)) ** 2 + 0 * (m.weight.sum() - 0.6).log()

    found = llc.estimate(model, (X,), batch_loss=loss, gamma=1.0, n_beta=3.0, budget=8000, **given)
    said = " ".join(found.verdict.sentences)
    assert found.verdict.status == "fail" or llc.Reason.SOME_DIVERGED in found.verdict.reasons
    assert "met a loss or gradient that is NaN" in said
    assert "logarithms, roots and divisions" in said
    assert "step is" not in said
    assert "infinity" not in said
    assert "not arrived" not in said


def test_a_step_too_large_is_still_called_that():
    found = estimate(linear(1), (X, X[:, :1]), "mse", step_size=30.0, n_beta=50.0)
    assert found.verdict.reasons == (llc.Reason.ALL_DIVERGED,)
    assert "left for infinity" in found.verdict.sentences[0]
    assert "step is too large" in found.verdict.sentences[0]


def test_the_command_line_says_the_same(tmp_path):
    (tmp_path / "tasks.py").write_text(
        "import torch, llc\n"
        "def task():\n"
        "    y = torch.arange(40) % 3\n"
        "    y[:5] = 255\n"
        "    return llc.Task(torch.nn.Linear(3, 3), (torch.ones(40, 3), y), 'cross_entropy')\n"
    )
    torch.save(linear().state_dict(), tmp_path / "step_1.pt")
    done = rlct("estimate", "step_1.pt", "--task", "tasks.py:task", cwd=tmp_path)
    assert done.returncode == 2
    assert "ignore_index=255" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
