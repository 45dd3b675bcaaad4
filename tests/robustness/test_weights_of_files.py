"""What is in the model is what the file holds, or it is refused with the names."""

import copy
import logging
import warnings

import pytest
import torch
from tiny import FAST, linear, real_valued, refusal, regular
from torch import nn

import llc
from llc.planting import interpolants

INPUTS = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
DATA = (INPUTS, INPUTS.sum(1, keepdim=True))
FLAT = {**FAST, "behavioural": True, "draws": 20, "burn_in": 20}


def task(model, data=DATA):
    return llc.Task(model, data, "mse")


def equal(one, other):
    """Whether two estimates agree to the bit."""
    return (one.llc, one.mcse, one.virial) == (other.llc, other.mcse, other.virial)


# Weights that are one in the model.


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.dec.weight = self.enc.weight

    def forward(self, inputs):
        return self.dec(torch.tanh(self.enc(inputs)))


def test_tied_weights_that_differ_in_the_file_are_refused_and_equal_ones_are_not():
    tied = task(Tied(), (INPUTS, INPUTS))
    ones = torch.ones(3, 3)
    message = refusal(lambda: tied.at({"enc.weight": ones, "dec.weight": torch.zeros(3, 3)}))
    assert "enc.weight and dec.weight" in message
    assert "untied" in message
    moved = tied.at({"enc.weight": ones, "dec.weight": ones.clone()}).model
    assert moved.dec.weight is moved.enc.weight
    assert torch.equal(moved.dec.weight, ones)
    # One of them that is dropped, as the refusal advises, is the other one.
    both = {"enc.weight": ones, "dec.weight": torch.zeros(3, 3)}
    found = llc.trace(tied, [(1, both)], drop="dec.*", **FAST)
    assert found.column("weight_norm") == pytest.approx([3.0])


def test_tied_weights_that_are_both_nan_are_no_quarrel():
    nan = torch.full((3, 3), torch.nan)
    moved = task(Tied()).at({"enc.weight": nan, "dec.weight": nan.clone()}).model
    assert moved.enc.weight.isnan().all()


class Views(nn.Module):
    """A buffer, and a part of it under a name of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("whole", torch.zeros(6))
        self.register_buffer("part", self.whole[2:4])
        self.layer = nn.Linear(3, 1)

    def forward(self, inputs):
        return self.layer(inputs) + self.whole.sum()


def test_buffers_that_share_a_part_of_their_memory():
    views, rest = task(Views()), nn.Linear(3, 1).state_dict()
    rest = {f"layer.{name}": value for name, value in rest.items()}
    whole = torch.arange(6.0)
    assert torch.equal(views.at({"whole": whole, **rest}).model.part, torch.tensor([2.0, 3.0]))
    message = refusal(lambda: views.at({"whole": whole, "part": torch.ones(2), **rest}))
    assert "whole and part" in message
    # The part begins where a part of the whole does, but does not hold all of it.
    assert "1 missing (whole)" in refusal(lambda: views.at({"part": torch.ones(2), **rest}))


def test_two_parameters_in_one_memory_are_refused_before_they_are_moved_apart():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight.data = model[0].weight.data
    message = refusal(lambda: task(model))
    assert "0.weight and 1.weight" in message
    model.requires_grad_(False)[0].bias.requires_grad_(True)
    assert task(model).size == 60  # frozen ones stay where they are
    view = nn.Linear(3, 1)
    view.register_buffer("first", view.weight.data[0, :1])
    assert "weight and first" in refusal(lambda: task(view))


def test_columns_of_one_matrix_share_nothing():
    both = torch.randn(3, 2)
    model = nn.Module()
    model.a, model.b = nn.Parameter(both[:, :1]), nn.Parameter(both[:, 1:])
    assert task(model).size == 60
    assert task(nn.LSTM(3, 2)).size == 60


def test_frozen_weights_tied_by_their_data_follow_the_one_in_the_file():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False), nn.Linear(3, 1))
    model[1].weight.data = model[0].weight.data
    model[:2].requires_grad_(False)
    given = {**model.state_dict(), "0.weight": torch.eye(3)}
    del given["1.weight"]
    assert torch.equal(task(model).at(given).model[1].weight, torch.eye(3))


# Kinds of numbers.


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.bool, torch.int64, torch.cfloat])
def test_numbers_of_another_kind_under_the_names_of_weights(kind):
    given = {"weight": torch.ones(1, 3).to(kind), "bias": torch.zeros(1)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch's own warning is not all that is said
        message = refusal(lambda: task(nn.Linear(3, 1)).at(given))
    assert f"weight is {kind} and should be torch.float32" in message
    assert "missing" not in message


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_packed_tensors_and_arrays_under_the_names_of_weights():
    packed = torch.quantize_per_tensor(torch.ones(1, 3), 0.1, 0, torch.qint8)
    odd = {"quantised": packed, "sparse": torch.ones(1, 3).to_sparse(), "meta": None, "ndarray": 0}
    odd |= {"meta": torch.ones(1, 3, device="meta"), "ndarray": torch.ones(1, 3).numpy()}
    for word, value in odd.items():
        given = {"weight": value, "bias": torch.zeros(1)}
        assert word in refusal(lambda given=given: task(nn.Linear(3, 1)).at(given)), word


def test_names_that_are_no_texts():
    given = {**nn.Linear(3, 1).state_dict(), 1: torch.ones(1)}
    assert "holds '1', a int, among its names" in refusal(lambda: task(nn.Linear(3, 1)).at(given))
    message = refusal(lambda: llc.trace(task(nn.Linear(3, 1)), [(1, given)], **FLAT))
    assert "among its names" in message


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_modules_are_given_no_other_kind_either():
    model = torch.jit.script(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)))
    given = {name: value.int() for name, value in model.state_dict().items()}
    assert "4 of another kind" in refusal(lambda: task(model).at(given))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_numbers_of_every_width_are_taken(kind):
    given = {"weight": torch.tensor([[1.0, 0.5, -2.0]], dtype=kind), "bias": torch.zeros(1)}
    moved = task(nn.Linear(3, 1)).at(given).model
    assert moved.weight.dtype == torch.float32
    assert moved.weight.tolist() == [[1.0, 0.5, -2.0]]


def test_numbers_beyond_the_range_of_the_models_dtype():
    half = task(nn.Linear(3, 1).half(), (INPUTS.half(), INPUTS[:, :1].half()))
    given = {"weight": torch.full((1, 3), 1e6), "bias": torch.zeros(1)}
    assert "beyond the range of torch.float16" in refusal(lambda: half.at(given))


class Indexed(nn.Linear):
    def __init__(self):
        super().__init__(3, 1)
        self.register_buffer("order", torch.arange(3))
        self.register_buffer("mask", torch.ones(3, dtype=torch.bool))

    def forward(self, inputs):
        return super().forward(inputs[:, self.order] * self.mask)


def test_whole_numbers_and_truth_values_have_to_survive_the_cast():
    own, indexed = Indexed().state_dict(), task(Indexed())
    given = {**own, "order": torch.tensor([2.0, 1.0, 0.0]), "mask": torch.tensor([1, 0, 1])}
    moved = indexed.at(given).model
    assert moved.order.tolist() == [2, 1, 0]
    assert moved.mask.tolist() == [True, False, True]
    for name, value in (("order", [2.0, 1.5, 0.0]), ("mask", [1.0, 0.5, 1.0])):
        message = refusal(lambda n=name, v=value: indexed.at({**own, n: torch.tensor(v)}))
        assert f"{name} is torch.float32, with numbers that torch." in message


def test_an_averaged_counter_of_batches_is_no_matter():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    given = {**model.state_dict(), "1.num_batches_tracked": torch.tensor(99.7)}
    assert task(model).at(given).model[1].num_batches_tracked == 99


def test_a_model_without_values_is_said_to_be_one():
    with torch.device("meta"):
        model = nn.Linear(3, 1)
    assert "meta device" in refusal(lambda: task(model).at(nn.Linear(3, 1).state_dict()))


# What the model's own loading does.


class Noted(nn.Linear):
    def get_extra_state(self):
        return {"note": getattr(self, "note", "none"), "scale": torch.ones(2)}

    def set_extra_state(self, state):
        self.note = state["note"]


def test_extra_state_is_loaded_and_may_be_missing(tmp_path, caplog):
    saved = Noted(3, 1)
    saved.note = "mine"
    torch.save({"model": saved.state_dict(), "step": 7}, tmp_path / "step_7.pt")
    weights = llc.load_weights(tmp_path / "step_7.pt")
    assert task(Noted(3, 1)).at(weights).model.note == "mine"
    found = llc.trace(task(Noted(3, 1)), tmp_path, out=tmp_path / "run", **FLAT)
    again = llc.trace(task(Noted(3, 1)), tmp_path, out=tmp_path / "run", **FLAT)
    assert not found.skipped
    assert list(found.llc) == list(again.llc)
    with caplog.at_level(logging.INFO, logger="llc"):
        task(Noted(3, 1)).at(nn.Linear(3, 1).state_dict())
    assert "_extra_state" in caplog.text
    assert "not in the model (_extra_state)" in refusal(lambda: task(linear()).at(weights))


def test_mixtures_of_checkpoints_with_extra_state_are_saved(tmp_path):
    made = interpolants(Noted(3, 1).state_dict(), Noted(3, 1).state_dict(), [0, 1], out=tmp_path)
    assert set(llc.load_weights(tmp_path / "step_0000000.safetensors")) == {"weight", "bias"}
    assert len(made) == 2
    whole = {**nn.Linear(3, 1).state_dict(), "weight": torch.ones(1, 3, dtype=torch.int8)}
    mixed = nn.Linear(3, 1).state_dict()
    assert "torch.int8" in refusal(lambda: interpolants(mixed, whole, [0, 1]))


def test_lazy_layers_take_their_shape_from_the_file():
    plain = regular()
    lazy = llc.Task(nn.LazyLinear(1, bias=False), plain.data, "mse")
    moved = lazy.at(plain.model.state_dict())
    assert equal(llc.estimate(moved, **FAST), llc.estimate(plain, **FAST))
    found = llc.trace(lazy, [(1, plain.model.state_dict())], **FAST)
    assert list(found.llc) == [llc.estimate(plain, **FAST).llc]
    norm = task(nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.LazyLinear(1)))
    given = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).state_dict()
    assert norm.at(given).model[1].running_var.shape == (4,)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_old_weight_norm_is_read_as_torch_reads_it():
    old = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 2)))
    new = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    moved = llc.Task(new, real_valued(), "mse").at(old.state_dict())
    assert torch.equal(moved.model(INPUTS), old(INPUTS))
    twin = copy.deepcopy(new)
    twin.load_state_dict(old.state_dict())
    assert equal(
        llc.estimate(moved, **FAST), llc.estimate(llc.Task(twin, real_valued(), "mse"), **FAST)
    )
    whole = {k: v.to(torch.int8) if k == "0.weight_v" else v for k, v in old.state_dict().items()}
    assert "1 of another kind" in refusal(lambda: llc.Task(new, real_valued(), "mse").at(whole))


class Renaming(nn.Linear):
    def __init__(self):
        super().__init__(3, 1)
        self.register_load_state_dict_pre_hook(self._old_names)

    def _old_names(self, module, state, prefix, *_):
        if f"{prefix}kernel" in state:
            state[f"{prefix}weight"] = state.pop(f"{prefix}kernel")


class Versioned(nn.Linear):
    """Files of version 1 hold the weight with the other sign."""

    _version = 2

    def _load_from_state_dict(self, state, prefix, metadata, *rest):
        if (metadata.get("version") or 1) < 2:
            state[f"{prefix}weight"] = -state[f"{prefix}weight"]
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_hooks_that_rename():
    given = {"0.kernel": torch.ones(1, 3), "0.bias": torch.zeros(1)}
    moved = task(nn.Sequential(Renaming())).at(given).model
    assert torch.equal(moved[0].weight, torch.ones(1, 3))


@pytest.mark.parametrize("wrapped", [False, True])
def test_versions_of_modules_go_along_with_the_weights(tmp_path, wrapped):
    model = nn.Sequential(Versioned(3, 1))
    saved = nn.DataParallel(model) if wrapped else model
    torch.save({"model": saved.state_dict()}, tmp_path / "step_1.pt")
    given = llc.load_weights(tmp_path / "step_1.pt", drop="none.*")
    assert torch.equal(task(model).at(given).model[0].weight, model[0].weight)
    first = {"first": lambda moved: moved[0].weight[0, 0]}
    states = ((step, model.state_dict()) for step in (1, 2))
    found = llc.trace(task(model), states, readings=first, **FLAT)
    assert found.column("first").tolist() == [model[0].weight[0, 0].item()] * 2
    # One without a version is of the first, as for torch.
    old = task(model).at(dict(model.state_dict())).model
    assert torch.equal(old[0].weight, -model[0].weight)


def test_batch_norm_without_its_counter():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    given = model.state_dict()
    del given["1.num_batches_tracked"]
    given["1.running_var"] = torch.full((4,), 7.0)
    for weights in (given, dict(given)):
        assert task(model).at(weights).model[1].running_var.tolist() == [7.0] * 4


class Tying(nn.Module):
    """Ties its weights once they are loaded, as some libraries do."""

    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.register_load_state_dict_post_hook(self._tie)

    @staticmethod
    def _tie(module, _):
        module.dec.weight = module.enc.weight

    def forward(self, inputs):
        return self.dec(self.enc(inputs))


def test_weights_tied_by_a_hook_that_differ_in_the_file():
    given = {"enc.weight": torch.ones(3, 3), "dec.weight": torch.zeros(3, 3)}
    message = refusal(lambda: task(Tying(), (INPUTS, INPUTS)).at(given))
    assert "dec.weight and enc.weight are one tensor" in message


class Swallowing(nn.Linear):
    """Loads something else than it is given."""

    def load_state_dict(self, state_dict, strict=True, assign=False):
        found = super().load_state_dict(state_dict, strict, assign)
        with torch.no_grad():
            self.weight.mul_(2)
        return found


def test_numbers_changed_by_the_models_own_loading_are_told(caplog):
    with caplog.at_level(logging.INFO, logger="llc"):
        task(Swallowing(3, 1)).at(nn.Linear(3, 1).state_dict())
    assert "1 tensors were changed by the hooks of Swallowing" in caplog.text
