"""Names of a checkpoint's tensors: several state dicts, surplus and missing ones, wrappers."""

import copy
import itertools
import json
import logging

import pytest
import torch
from safetensors.torch import save_file
from test_weights_of_files import equal
from tiny import FAST, linear, real_valued, refusal
from torch import nn

import llc
from llc.checkpoints import read_checkpoint
from llc.cli.main import main
from llc.trajectory.follow import follow

WEIGHTS, EMA = linear(seed=5).state_dict(), linear(seed=6).state_dict()
SHORT = {**FAST, "draws": 20, "burn_in": 20}
TASK = """
import llc
from tiny import linear, real_valued

def task():
    return llc.Task(linear(), real_valued(), "mse")
"""


def task(model=None):
    return llc.Task(linear() if model is None else model, real_valued(), "mse")


def same(weights, wanted):
    return set(weights) == set(wanted) and all(torch.equal(weights[k], wanted[k]) for k in wanted)


def saved(path, content):
    torch.save(content, path)
    return path


# Several state dicts in one file.


def test_one_of_several_state_dicts(tmp_path):
    state = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}
    beside = {"optimizer": state, "rng": {"cpu": EMA["bias"]}, "step": 7}
    path = saved(tmp_path / "step_7.pt", {"model": WEIGHTS, "model_ema": EMA, **beside})
    message = refusal(lambda: llc.load_weights(path))
    assert "2 state dicts (model, model_ema)" in message
    assert "--entry model_ema" in message
    assert same(llc.load_weights(path, entry="model_ema"), EMA)
    assert same(llc.load_weights(path, "model"), WEIGHTS)
    assert read_checkpoint(path, "model")[1] == {"step": 7}
    message = refusal(lambda: llc.load_weights(path, entry="ema"))
    assert "has no entry 'ema', expected one of model, model_ema" in message
    assert "holds a int as 'step'" in refusal(lambda: llc.load_weights(path, entry="step"))


def test_states_of_optimisers_are_no_candidates(tmp_path):
    flat = {f"state.{k}.exp_avg": v for k, v in WEIGHTS.items()}
    for name in ("optimizer", "optim_state", "lr_scheduler", "rng_state", "grad_scaler"):
        path = saved(tmp_path / f"{name}_1.pt", {"model": WEIGHTS, name: flat})
        assert same(llc.load_weights(path), WEIGHTS), name


@pytest.mark.parametrize(
    ("content", "entry"),
    [
        ({"ema": {"shadow": EMA, "decay": 0.99}}, "ema.shadow"),
        ({"model": WEIGHTS, "callbacks": {"EMA": {"weights": EMA}}}, "callbacks.EMA.weights"),
        ({"nets": [WEIGHTS, EMA]}, "nets.1"),
        ({"a.b": {"c": EMA}, "a": WEIGHTS}, "a.b.c"),
        ({f"{n}.{k}": v for n, w in (("net", WEIGHTS), ("ema", EMA)) for k, v in w.items()}, "ema"),
        ({"state_dict": {"ema.weight": EMA["weight"], "ema.bias": EMA["bias"], "w": EMA["bias"]}},
         "state_dict.ema"),
    ],
    ids=["nested", "deeper", "list", "dots", "flat", "flat inside"],
)  # fmt: skip
def test_entries_by_dotted_names(tmp_path, content, entry):
    path = saved(tmp_path / "step_1.pt", content)
    assert same(llc.load_weights(path, entry=entry), EMA)


def test_what_lies_further_in_is_named(tmp_path):
    path = saved(tmp_path / "step_1.pt", {"ema": {"shadow": EMA, "decay": 0.99}})
    assert "--entry ema.shadow" in refusal(lambda: llc.load_weights(path))
    path = saved(tmp_path / "step_2.pt", {f"net{i}": WEIGHTS for i in range(40)})
    message = refusal(lambda: llc.load_weights(path))
    assert "and 32 more" in message
    assert len(message) < 300


def test_an_entry_in_safetensors_and_of_the_hub(tmp_path):
    both = {f"{n}.{k}": v for n, w in (("net", WEIGHTS), ("ema", EMA)) for k, v in w.items()}
    save_file(both, tmp_path / "step_1.safetensors")
    assert same(llc.load_weights(tmp_path / "step_1.safetensors", "ema"), EMA)
    assert "without entries" in refusal(lambda: llc.load_weights("hf:some/model", entry="ema"))


def run_of_files(folder):
    folder.mkdir()
    for step in (10, 20):
        scaled = {k: v * step / 10 for k, v in EMA.items()}
        content = {"model": WEIGHTS, "ema": {"shadow": {**scaled, "head.w": torch.ones(4)}}}
        saved(folder / f"step_{step}.pt", content)
    return [(step, {k: v * step / 10 for k, v in EMA.items()}) for step in (10, 20)]


def test_entries_and_patterns_reach_every_checkpoint_of_a_run(tmp_path):
    plain = llc.trace(task(), run_of_files(tmp_path / "run"), **SHORT)
    chosen = {"entry": "ema.shadow", "drop": ["head.*", "none"]}
    found = llc.trace(task(), tmp_path / "run", **chosen, **SHORT)
    assert list(found.llc) == list(plain.llc)
    nested = [(1, torch.load(tmp_path / "run" / "step_10.pt"))]
    assert llc.trace(task(), nested, **chosen, **SHORT).llc[0] == plain.llc[0]
    lazily = llc.trace(task(), iter(nested), **chosen, **SHORT)
    assert lazily.llc[0] == plain.llc[0]
    followed = llc.trace(task(), tmp_path / "run", follow=True, follow_for=0.1, **chosen, **SHORT)
    assert list(followed.llc) == list(plain.llc)
    survey = llc.basins(task(), tmp_path / "run", count=2, **chosen)
    wanted = llc.basins(task(), run_of_files(tmp_path / "again"), count=2)
    assert survey.loss.tolist() == wanted.loss.tolist()
    assert {k: v.tolist() for k, v in survey.cka.items()} == {
        k: v.tolist() for k, v in wanted.cka.items()
    }
    parts = {"all": None}
    refined = llc.refine(task(), tmp_path / "run", parts, **chosen, **SHORT)
    assert list(refined.trajectories["all"].llc) == list(plain.llc)


def test_files_of_several_state_dicts_are_followed(tmp_path):
    plain = run_of_files(tmp_path / "run")
    # A file that cannot be read is waited for; these can.
    found = follow(tmp_path / "run", None, entry="ema.shadow", drop="head.*")
    steps = [item.step for item in itertools.islice(found, 3) if item is not None]
    assert steps == [step for step, _ in plain]


def test_entries_and_patterns_reach_worker_processes(tmp_path):
    plain = llc.trace(task(), run_of_files(tmp_path / "run"), **SHORT)
    chosen = {"entry": "ema.shadow", "drop": "head.*", "workers": 2}
    assert list(llc.trace(task(), tmp_path / "run", **chosen, **SHORT).llc) == list(plain.llc)


def test_commands_take_entries_and_patterns(tmp_path, monkeypatch, capsys):
    plain = run_of_files(tmp_path / "run")
    (tmp_path / "ema_task.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    file = "run/step_10.pt"
    flags = ["--task", "ema_task.py:task", "--entry", "ema.shadow"]
    fast = ["--gamma", "10", "--chains", "2", "--draws", "20", "--burn-in", "20"]
    assert main(["estimate", file, *flags[:2], *fast]) == 0  # the one on the first level
    capsys.readouterr()
    assert main(["estimate", file, *flags, *fast]) == 2
    assert "--drop head.w" in capsys.readouterr().err
    assert (
        main(["estimate", "--drop", "none", "--drop", "head.*", file, *flags, *fast, "--json"]) == 0
    )
    alone = llc.estimate(task().at(plain[0][1]), **SHORT).llc
    assert json.loads(capsys.readouterr().out)["llc"] == alone
    traced = ["trace", "run", *flags, "--drop", "head.*", *fast, "--out", "out", "--workers", "1"]
    assert main([*traced, "--json"]) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    assert points[0]["llc"] == alone
    command = json.loads((tmp_path / "out" / "command.json").read_text())
    assert (command["entry"], command["drop"]) == ("ema.shadow", ["head.*"])
    assert main(["basins", "out", "--json"]) == 0  # as the run was made
    assert len(json.loads(capsys.readouterr().out)["steps"]) == 2


@pytest.mark.parametrize("command", ["calibrate", "scale", "symmetries", "plant", "mix", "refine"])
def test_every_other_command_reads_the_entry(tmp_path, monkeypatch, capsys, command):
    saved(tmp_path / "step_1.pt", {"model": WEIGHTS, "model_ema": {**EMA, "more": torch.ones(1)}})
    (tmp_path / "ema_task.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    files = ["step_1.pt"] * (2 if command == "mix" else 1)
    out = ["--out", "out"] if command in ("plant", "mix", "refine") else []
    words = [command, *files, "--task", "ema_task.py:task", *out]
    assert main([*words, "--entry", "nothing"]) == 2
    assert "has no entry 'nothing'" in capsys.readouterr().err
    # What is refused now is what the entry holds.
    assert main([*words, "--entry", "model_ema"]) == 2
    assert "not in the model (more)" in capsys.readouterr().err


# Surplus and missing names.


def test_surplus_tensors_are_named_with_the_flag_that_drops_them(tmp_path):
    surplus = {"attn.bias": torch.ones(2, 2), "position_ids": torch.arange(3)}
    path = saved(
        tmp_path / "step_1.pt", {f"module.{k}": v for k, v in {**WEIGHTS, **surplus}.items()}
    )
    message = refusal(lambda: task().at(llc.load_weights(path)))
    assert "2 not in the model (attn.bias, position_ids)" in message
    assert "--drop attn.bias" in message
    # By the name in the file, or by the one that the message has.
    for drop in (["module.attn.*", "position_ids"], ["attn.bias", "*position*"]):
        assert same(llc.load_weights(path, drop=drop), WEIGHTS)
    assert "1 missing (bias)" in refusal(lambda: task().at(llc.load_weights(path, drop="*bias")))


@pytest.mark.parametrize("name", ["position_ids", "1.num_batches_tracked"])
def test_what_looks_like_no_weight_needs_the_flag_too(name):
    given = {**WEIGHTS, name: torch.tensor(1)}
    assert f"1 not in the model ({name})" in refusal(lambda: task().at(given))
    assert not llc.trace(task(), [(1, given)], drop=name, **SHORT).skipped


def frozen():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    return model


def test_frozen_weights_that_the_file_lacks_are_the_tasks_own(caplog):
    model = frozen()
    head = {name: value + 0.1 for name, value in model.state_dict().items() if name[0] == "2"}
    full = {**model.state_dict(), **head}
    with caplog.at_level(logging.INFO, logger="llc"):
        part = task(model).at(head)
    assert "2 tensors of Sequential are not in the checkpoint" in caplog.text
    assert "0.weight first" in caplog.text
    assert equal(llc.estimate(part, **FAST), llc.estimate(task(model).at(full), **FAST))
    message = refusal(lambda: task(model).at({"2.bias": head["2.bias"]}))
    assert "1 missing (2.weight)" in message
    assert "2 missing" in refusal(lambda: task().at({}))
    assert "missing" in refusal(lambda: task(model.requires_grad_(False)).at({}))


def test_statistics_that_training_moves_are_not_the_tasks_own():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    given = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    assert "2 missing (1.running_mean, 1.running_var)" in refusal(lambda: task(model).at(given))
    model[1].requires_grad_(False)
    given = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    assert task(model).at(given).size == 40


class Adapted(nn.Module):
    """A linear layer with an adapter, under the names that PEFT gives them."""

    def __init__(self, inputs, outputs, adapters=("default",)):
        super().__init__()
        self.base_layer = nn.Linear(inputs, outputs).requires_grad_(False)
        self.lora_A = nn.ModuleDict({name: nn.Linear(inputs, 2, bias=False) for name in adapters})
        self.lora_B = nn.ModuleDict({name: nn.Linear(2, outputs, bias=False) for name in adapters})

    def forward(self, inputs):
        moved = inputs
        for name in self.lora_A:
            moved = self.lora_B[name](self.lora_A[name](inputs))
        return self.base_layer(inputs) + moved


class Peft(nn.Module):
    def __init__(self, *adapters):
        super().__init__()
        self.base_model = nn.Module()
        self.base_model.model = nn.Sequential(Adapted(3, 4, adapters), Adapted(4, 2, adapters))

    def forward(self, inputs):
        return self.base_model.model(inputs)


@pytest.mark.parametrize("name", ["default", "mine"])
@pytest.mark.parametrize("inside", [False, True])
def test_adapters_as_peft_saves_them(tmp_path, name, inside):
    whole = Peft(name)
    own = {k: torch.randn_like(v) for k, v in whole.state_dict().items() if "lora_" in k}
    save_file({k.replace(f".{name}.", "."): v for k, v in own.items()},
              tmp_path / "adapter_model.safetensors")  # fmt: skip
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    wanted = copy.deepcopy(whole)
    wanted.load_state_dict(own, strict=False)
    model = whole.base_model.model if inside else whole
    moved = task(model).at(llc.load_weights(tmp_path)).model
    inputs = real_valued()[0]
    assert torch.equal(moved(inputs), wanted(inputs))


def test_an_adapter_that_could_be_either_of_two_is_refused():
    own = Peft("default").state_dict()
    given = {k.replace(".default.", "."): v for k, v in own.items() if "lora_" in k}
    assert "8 missing" in refusal(lambda: task(Peft("one", "two")).at(given))


# Prefixes.


class Wrapper(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs):
        return self.model(inputs)


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


@pytest.mark.parametrize(
    "named",
    [
        lambda k: k.replace("0.", "0._orig_mod."),
        lambda k: k.replace("2.", "2._checkpoint_wrapped_module."),
        lambda k: f"_fsdp_wrapped_module.{k}".replace("0.", "0._fsdp_wrapped_module."),
        lambda k: k.replace("2.", "module.2.module._orig_mod."),
        lambda k: f"net.{k}",
        lambda k: f"model.net.{k}",
        lambda k: f"net._orig_mod.{k}".replace("0.", "0.module."),
    ],
)
def test_wrappers_and_prefixes_anywhere_in_a_name(caplog, named):
    given = network().state_dict()
    with caplog.at_level(logging.INFO, logger="llc"):
        moved = task(network()).at({named(name): value for name, value in given.items()})
    assert same(moved.model.state_dict(), given)
    assert "checkpoint's names" in caplog.text
    # And the other way about: the task's model is the wrapped one.
    wrapped = network()
    wrapped[0] = Wrapper(wrapped[0])
    wrapped[0]._modules["_orig_mod"] = wrapped[0]._modules.pop("model")
    assert same(
        dict(zip(given, task(wrapped).at(given).model.state_dict().values(), strict=True)), given
    )


def test_a_prefix_is_added_where_the_model_is_wrapped(caplog):
    given = network().state_dict()
    with caplog.at_level(logging.INFO, logger="llc"):
        moved = task(Wrapper(network())).at(given)
    assert same(moved.model.model.state_dict(), given)
    assert "prefix 'model.' added" in caplog.text


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.online, self.target = linear(), linear()

    def forward(self, inputs):
        return self.online(inputs) + self.target(inputs)


def test_what_could_be_meant_twice_is_not_guessed():
    assert "4 missing" in refusal(lambda: task(Two()).at(WEIGHTS))
    two = Two()
    two.target.requires_grad_(False)
    assert "2 missing (online.weight, online.bias)" in refusal(lambda: task(two).at(WEIGHTS))
    twice = {f"{n}.{k}": v for n in ("a", "b") for k, v in WEIGHTS.items()}
    assert "4 not in the model" in refusal(lambda: task().at(twice))
    # Two names that become one.
    given = {**WEIGHTS, "_orig_mod.bias": EMA["bias"]}
    assert "1 not in the model (_orig_mod.bias)" in refusal(lambda: task().at(given))


@pytest.mark.filterwarnings("ignore")
def test_a_classifier_of_hugging_face_in_a_module_that_returns_its_logits(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        vocab_size=10, num_labels=2,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path)

    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = transformers.BertForSequenceClassification(config)

        def forward(self, inputs):
            return self.model(inputs).logits

    words, data = torch.randint(10, (8, 5)), torch.randint(2, (8,))
    moved = llc.Task(Logits(), (words, data), "cross_entropy").at(llc.load_weights(tmp_path))
    assert torch.equal(moved.model.eval()(words), model(words).logits)
    message = refusal(lambda: llc.estimate(model, (words, data), "cross_entropy", **SHORT))
    assert "returns a SequenceClassifierOutput" in message
    assert "whose forward returns .logits" in message
    other = {name.replace("query", "q_proj"): w for name, w in model.state_dict().items()}
    message = refusal(lambda: moved.at(other))
    assert "read each with from_pretrained" in message
    assert len(message) < 600


class Pair(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs), inputs


class Named(nn.Linear):
    def forward(self, inputs):
        return {"scores": super().forward(inputs)}


@pytest.mark.parametrize(
    ("kind", "word"), [(Pair, "its element [0]"), (Named, "its entry 'scores'")]
)
@pytest.mark.parametrize("loss", ["mse", nn.SmoothL1Loss()])
def test_outputs_that_are_no_tensor(kind, word, loss):
    message = refusal(lambda: llc.estimate(kind(3, 2), real_valued(), loss, **SHORT))
    assert word in message
    # A loss that takes them is the user's own affair.
    taken = lambda outputs, targets: (outputs[0] - targets).square().mean(1)
    assert llc.estimate(Pair(3, 2), real_valued(), taken, **SHORT).dimension == 8
