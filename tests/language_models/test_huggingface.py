"""Causal language models as tasks: against transformers' own loss, and loops over single tokens."""

import copy
import json
import math
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from language import VOCABULARY, build, cache, tokens
from tiny import refusal, rlct

import llc
from llc.execution import Execution
from llc.language import hub, huggingface
from llc.objective import Objective
from llc.surface import LossSurface

KINDS = ("gpt_neox", "llama", "gpt2")
SHORT = {"gamma": 50.0, "chains": 2, "draws": 30, "burn_in": 20}


def by_hand(model, ids, labels):
    """Losses of single tokens, one forward pass a sequence, in plain Python sums."""
    found = []
    for row, targets in zip(ids, labels, strict=True):
        logits = model(row[None]).logits[0].log_softmax(-1)
        found.append(
            [-logits[t, targets[t + 1]].item() for t in range(len(row) - 1) if targets[t + 1] >= 0]
        )
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_transformers(kind):
    model, ids = build(kind), tokens()
    with torch.no_grad():
        theirs = model(ids, labels=ids).loss.item()
    surface = LossSurface(huggingface.task(model, ids))
    assert surface.baseline == pytest.approx(theirs, rel=1e-5)
    assert surface.vectorised, surface.why_not_vectorised
    assert surface.chance == pytest.approx(math.log(VOCABULARY))


@pytest.mark.parametrize("kind", KINDS)
def test_tied_weights_are_sampled_once_and_nothing_of_the_model_changes(kind):
    model = build(kind)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    task = huggingface.task(model, tokens())
    found = llc.estimate(task, **SHORT)
    assert found.dimension == sum(p.numel() for p in model.parameters())
    assert math.isfinite(found.llc)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def ragged():
    ids, labels = tokens(), tokens()
    lengths = [9, 4, 6, 2] * 6
    for row, length in enumerate(lengths):
        ids[row, length:] = 0
        labels[row, length:] = -100
    return ids, labels, torch.tensor(lengths)


@pytest.mark.parametrize("weighting", ["token", "sequence"])
def test_weighting(weighting):
    model = build()
    ids, labels, _ = ragged()
    losses = by_hand(model, ids, labels)
    if weighting == "token":
        expected = sum(map(sum, losses)) / sum(map(len, losses))
    else:
        expected = sum(sum(row) / len(row) for row in losses) / len(losses)
    task = huggingface.task(model, ids, labels=labels, weighting=weighting)
    assert Objective(task).baseline.mean == pytest.approx(expected, rel=1e-5)


def test_the_two_weightings_differ():
    ids, labels, _ = ragged()
    both = [
        Objective(huggingface.task(build(), ids, labels=labels, weighting=w)).baseline.mean
        for w in ("token", "sequence")
    ]
    assert abs(both[0] - both[1]) > 1e-3


@pytest.mark.parametrize("weighting", ["token", "sequence"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_adds_nothing(weighting, side):
    """The texts alone, one at a time, against all of them padded with an attention mask."""
    model = build("llama")
    ids, labels, lengths = ragged()
    losses = by_hand(model, ids, labels)
    mask = (torch.arange(9) < lengths[:, None]).long()
    if side == "left":
        ids = torch.stack([r.roll(9 - int(n)) for r, n in zip(ids, lengths, strict=True)])
        mask = mask.flip(1)
    task = huggingface.task(model, ids, attention_mask=mask, weighting=weighting)
    means = [sum(map(sum, losses)) / sum(map(len, losses))]
    means.append(sum(sum(row) / len(row) for row in losses) / len(losses))
    expected = means[weighting == "sequence"]
    assert Objective(task).baseline.mean == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weighting", ["token", "sequence"])
def test_behavioural_is_the_divergence_from_the_own_distribution(weighting):
    model = build("gpt2")
    ids, labels, _ = ragged()
    task = huggingface.task(model, ids, labels=labels, weighting=weighting)
    objective = Objective(task, behavioural=True)
    assert objective.baseline.mean == pytest.approx(0, abs=1e-6)
    moved = objective.centre + 0.03 * torch.randn(
        objective.layout.total, generator=torch.Generator().manual_seed(1)
    )
    other = copy.deepcopy(model)
    other.load_state_dict(
        {k.removeprefix("model.module."): v for k, v in objective.layout.unflatten(moved).items()},
        strict=False,
    )
    other.tie_weights()
    with torch.no_grad():
        p, q = model(ids[:, :-1]).logits, other(ids[:, :-1]).logits
    kl = F.kl_div(q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="none").sum(-1)
    kept = labels[:, 1:] != -100
    expected = (
        kl[kept].mean() if weighting == "token" else ((kl * kept).sum(1) / kept.sum(1)).mean()
    )
    found = objective.values(moved, objective.data).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_unmasked_padding_is_called_out_and_masked_padding_is_not():
    ids, labels, _ = ragged()
    padded = llc.estimate(huggingface.task(build(), ids), **SHORT)
    assert llc.Reason.PADDED in padded.verdict.reasons
    masked = llc.estimate(huggingface.task(build(), ids, labels=labels), **SHORT)
    assert llc.Reason.PADDED not in masked.verdict.reasons


def test_half_precision_is_raised_in_a_copy():
    model = build().bfloat16()
    task = huggingface.task(model, tokens())
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    exact = huggingface.task(copy.deepcopy(model).float(), tokens())
    surface = LossSurface(task)
    assert surface.centre.dtype == torch.float32
    assert surface.baseline == LossSurface(exact).baseline
    # Far below the rounding of bfloat16, and yet the loss sees it.
    step = 1e-5 * torch.ones(1, surface.layout.total)
    assert surface.evaluate(step, None).rise.abs().item() > 0


def test_autocast_computes_in_bfloat16_with_float32_masters():
    seen = set()
    model = build("llama")
    hook = model.model.layers[0].mlp.up_proj.register_forward_hook(
        lambda _m, _i, out: seen.add(out.dtype)
    )
    execution = Execution(compile="off", autocast=True)
    surface = LossSurface(huggingface.task(model, tokens()), execution=execution)
    hook.remove()
    seen.clear()
    found = surface.evaluate(1e-3 * torch.ones(1, surface.layout.total), None)
    assert seen == {torch.bfloat16}
    assert {part.dtype for part in found} == {surface.centre.dtype} == {torch.float32}


class Hooked(torch.nn.Module):
    """What models of TransformerLens look like: logits themselves, and a cfg."""

    def __init__(self):
        super().__init__()
        self.cfg = {"d_vocab": VOCABULARY}
        self.embed, self.unembed = torch.nn.Embedding(VOCABULARY, 8), torch.nn.Linear(8, VOCABULARY)

    def forward(self, input, return_type="logits"):  # TransformerLens's name
        assert return_type == "logits"
        return self.unembed(self.embed(input))


def test_models_that_return_logits_themselves():
    model, ids = Hooked(), tokens()
    with torch.no_grad():
        expected = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    found = Objective(huggingface.task(model, ids)).baseline.mean
    assert found == pytest.approx(expected.item(), rel=1e-6)


def test_folder_and_weights_from_a_folder(tmp_path):
    model, other = build(seed=0), build(seed=1)
    model.save_pretrained(tmp_path / "one")
    other.save_pretrained(tmp_path / "other", max_shard_size="20KB")
    assert len(list((tmp_path / "other").glob("*.safetensors"))) > 1
    task = huggingface.task(tmp_path / "one", tokens())
    expected = Objective(huggingface.task(other, tokens())).baseline.mean
    for place in (tmp_path / "other", f"hf:{tmp_path / 'other'}"):
        moved = task.at(llc.load_weights(place))
        assert Objective(moved).baseline.mean == pytest.approx(expected, rel=1e-6)
    moved = task.at(llc.load_weights(tmp_path / "one"))
    assert Objective(moved).baseline.mean == Objective(task).baseline.mean


def test_a_folder_of_models_is_told_from_a_model(tmp_path):
    for step in (16, 8):
        build().save_pretrained(tmp_path / f"step{step}")
    for load in (huggingface.task, lambda place, _: llc.load_weights(f"hf:{place}")):
        message = refusal(lambda load=load: load(tmp_path, tokens()))
        assert "a folder of 2" in message
        assert f"give hf:{tmp_path}@step8" in message


def test_a_head_that_is_not_there_is_not_drawn_at_random(tmp_path):
    model = build()
    model.base_model.save_pretrained(tmp_path)
    message = refusal(lambda: huggingface.task(tmp_path, tokens()))
    assert "lack 1 weights" in message


def test_what_cannot_be_used_is_refused(tmp_path):
    model = build()
    assert "weighting" in refusal(lambda: huggingface.task(model, tokens(), weighting="word"))
    assert "vocabulary" in refusal(lambda: huggingface.task(model, tokens() + VOCABULARY))
    assert "length=32" in refusal(lambda: huggingface.task(model, tokens(4, 60)))
    assert "two tokens" in refusal(lambda: huggingface.task(model, tokens(4, 1)))
    nothing = torch.full((24, 9), -100)
    assert "nothing to predict" in refusal(
        lambda: huggingface.task(model, tokens(), labels=nothing)
    )
    assert "no folder" in refusal(lambda: huggingface.task("./nowhere", tokens()))
    (tmp_path / "empty").mkdir()
    assert "cannot be loaded" in refusal(lambda: huggingface.task(tmp_path / "empty", tokens()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:a/b@step{0,16}", ["hf:a/b@step0", "hf:a/b@step16"]),
        ("hf:a/b@step{1..3}", ["hf:a/b@step1", "hf:a/b@step2", "hf:a/b@step3"]),
        ("hf:a/b@step{0,10..30..10}", [f"hf:a/b@step{k}" for k in (0, 10, 20, 30)]),
        ("hf:a/b-{s,m}@{0,1}", ["hf:a/b-s@0", "hf:a/b-s@1", "hf:a/b-m@0", "hf:a/b-m@1"]),
        ("hf:a/b", ["hf:a/b"]),
    ],
)
def test_series(text, expected):
    assert hub.expand(text) == expected


@pytest.mark.parametrize("text", ["hf:a@step{0,,1}", "hf:a@step{}", "hf:a@step{0,1", "hf:a@step0}"])
def test_series_refused(text):
    assert "step{0,1,2}" in refusal(lambda: hub.expand(text))


@pytest.mark.slow
def test_revisions_of_a_cache_from_the_command_line(tmp_path):
    """What a user types, offline, against the same models in hand."""
    models = {f"step{n}": build(seed=n) for n in (0, 1, 512)}
    cache(tmp_path / "home" / "hub", "someone/tiny-neox", models)
    torch.manual_seed(0)
    ids = tokens()
    np.save(tmp_path / "tokens.npy", ids.numpy().astype(np.uint16))
    env = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    short = [f"--{k.replace('_', '-')}={v}" for k, v in SHORT.items()]
    done = rlct(
        "trace", "hf:someone/tiny-neox@step{0,1,512}", "--task", "hf:someone/tiny-neox@step0",
        "--data", "tokens.npy", "--out", "run", "--workers", "1", "--json", *short,
        cwd=tmp_path, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    points = json.loads(done.stdout)["points"]
    assert [point["step"] for point in points] == [0, 1, 512]
    for point, model in zip(points, models.values(), strict=True):
        expected = Objective(huggingface.task(model, ids)).baseline.mean
        assert point["baseline"] == pytest.approx(expected, rel=1e-5)
    known = json.loads((tmp_path / "run" / "command.json").read_text())
    assert known["checkpoints"] == ["hf:someone/tiny-neox@step{0,1,512}"]
    assert known["arguments"] == {"data": str(tmp_path / "tokens.npy")}
    missing = rlct(
        "estimate", "hf:someone/tiny-neox@step7", "--task", "hf:someone/tiny-neox@step0",
        "--data", "tokens.npy", cwd=tmp_path, env=env,
    )  # fmt: skip
    assert missing.returncode == 2
    assert "step7" in missing.stderr
    assert missing.stderr.count("\n") == 1


@pytest.mark.slow
def test_revisions_shared_out_among_jobs(tmp_path):
    """Each job finds cache, tokens and choice of parameters again, as one process does."""
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    models = {f"step{n}": build(seed=n) for n in (0, 1, 512)}
    cache(tmp_path / "home" / "hub", "someone/tiny-neox", models)
    np.save(tmp_path / "tokens.npy", tokens().numpy().astype(np.uint16))
    env = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    short = [f"--{k.replace('_', '-')}={v}" for k, v in SHORT.items()]
    found = []
    for out, more in (("alone", []), ("jobs", ["--submit", "local", "--jobs", "2"])):
        done = rlct(
            "trace", "hf:someone/tiny-neox@step{0,1,512}", "--task", "hf:someone/tiny-neox@step0",
            "--data", "tokens.npy", "--out", out, "--workers", "1", "--json",
            "--only", "*layers.0.*", *short, *more, cwd=tmp_path, env=env,
            timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        points = json.loads(done.stdout)["points"]
        found.append([(p["step"], p["dimension"], p["llc"]) for p in points])
        known = json.loads((tmp_path / out / "command.json").read_text())
        assert known["arguments"] == {"data": str(tmp_path / "tokens.npy")}
    assert found[0] == found[1]
    assert [step for step, *_ in found[0]] == [0, 1, 512]


def test_flags_without_their_task(tmp_path):
    done = rlct("estimate", "x.pt", "--task", "modular-addition", "--data", "t.npy", cwd=tmp_path)
    assert done.returncode == 2
    assert "language model" in done.stderr
