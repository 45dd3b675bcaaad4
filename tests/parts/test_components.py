"""Heads of published architectures, against what the models themselves do with their weights."""

import pytest
import torch
from tiny import refusal
from torch.func import functional_call

from llc.parts import component, knows

transformers = pytest.importorskip("transformers")

SMALL = {"num_hidden_layers": 2, "hidden_size": 24, "intermediate_size": 16, "vocab_size": 11}


def build(kind, **given):
    if kind == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=11, n_positions=16, n_embd=24, n_layer=2, n_head=3, n_inner=16, **given
        )
        found = transformers.GPT2LMHeadModel
    elif kind == "neox":
        config = transformers.GPTNeoXConfig(**SMALL, num_attention_heads=3, **given)
        found = transformers.GPTNeoXForCausalLM
    else:
        config = transformers.LlamaConfig(**{**SMALL, **given}, num_attention_heads=4)
        found = transformers.LlamaForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = found(config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


MODELS = {
    "gpt2": ("gpt2", {}, 3, 1, "transformer.h.1.attn.c_proj"),
    "neox": ("neox", {}, 3, 1, "gpt_neox.layers.1.attention.dense"),
    "llama": ("llama", {}, 4, 1, "model.layers.1.self_attn.o_proj"),
    "shared keys": (
        "llama", {"num_key_value_heads": 2}, 4, 2, "model.layers.1.self_attn.o_proj"
    ),
    "wide heads": (
        "llama", {"head_dim": 10, "num_key_value_heads": 2}, 4, 2,
        "model.layers.1.self_attn.o_proj",
    ),
    # 4 queries of 4 are as long as 2 keys of 8 = hidden/heads would be.
    "narrow heads": (
        "llama", {"hidden_size": 32, "head_dim": 4, "num_key_value_heads": 2}, 4, 2,
        "model.layers.1.self_attn.o_proj",
    ),
}  # fmt: skip


def heads_in(model, params, output):
    """What arrives at the output projection, head after head."""
    seen = []
    module = model.get_submodule(output)
    hook = module.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    with torch.no_grad():
        functional_call(model, params, (torch.arange(8)[None] % 11,))
    hook.remove()
    return seen[0][0]


@pytest.mark.parametrize("name", MODELS)
def test_a_head_is_what_moves_its_own_part_of_the_stream_and_nothing_else(name):
    kind, given, heads, each, output = MODELS[name]
    model = build(kind, **given)
    assert knows(model)
    params = {n: p.detach() for n, p in model.named_parameters()}
    before = heads_in(model, params, output)
    size = before.shape[-1] // heads
    for head in range(heads):
        masks = component(model, f"l1h{head}")
        moved = dict(params)
        for n, mask in masks.items():
            if not n.startswith(output):
                moved[n] = params[n] + 0.5 * mask
        change = (heads_in(model, moved, output) - before).abs().amax(0).view(heads, size).amax(1)
        group = range(head // each * each, (head // each + 1) * each)
        # Heads that share its keys and values move with it; no others do.
        assert [h for h in range(heads) if change[h] > 1e-4] == list(group)
        (columns,) = (mask for n, mask in masks.items() if n == f"{output}.weight")
        axis = 0 if kind == "gpt2" else 1
        along = columns.all(1 - axis)
        assert along.nonzero()[:, 0].tolist() == list(range(head * size, (head + 1) * size))
    # All heads together are all weights of attention, each once.
    total = torch.zeros(1)
    for head in range(heads):
        queries = component(model, f"l1h{head}")[f"{output}.weight"]
        total = total + queries.float()
    assert bool((total == 1).all())


def test_queries_of_one_head_alone_move_that_head_alone():
    kind, given, heads, _, output = MODELS["narrow heads"]
    model = build(kind, **given)
    params = {n: p.detach() for n, p in model.named_parameters()}
    before = heads_in(model, params, output)
    for head in range(heads):
        query = output.replace("o_proj", "q_proj.weight")
        moved = {**params, query: params[query] + 0.5 * component(model, f"l1h{head}")[query]}
        change = (heads_in(model, moved, output) - before).abs().amax(0).view(heads, -1).amax(1)
        assert [h for h in range(heads) if change[h] > 1e-4] == [head]


def test_groups_hold_their_heads():
    kind, given, heads, each, _ = MODELS["wide heads"]
    model = build(kind, **given)
    for group in range(heads // each):
        whole = component(model, f"L0 G{group}")
        for n, mask in whole.items():
            parts = [component(model, f"l0h{group * each + k}")[n] for k in range(each)]
            assert torch.equal(mask, torch.stack(parts).any(0))


def test_layers_and_embeddings():
    model = build("llama")
    assert set(component(model, "embed")) == {"model.embed_tokens.weight"}
    assert set(component(model, "unembed")) == {"lm_head.weight"}
    names = set(component(model, "l1"))
    assert names == {n for n, _ in model.named_parameters() if ".layers.1." in n}
    assert set(component(model, "l1  mlp")) == {n for n in names if ".mlp." in n}
    assert component(model, "anything else") is None


def test_what_is_not_there_is_refused():
    model = build("llama", num_key_value_heads=2)
    assert "2 layers of 4 heads" in refusal(lambda: component(model, "l0h4"))
    assert "2 groups" in refusal(lambda: component(model, "l0g2"))
    assert "out of range" in refusal(lambda: component(model, "l2"))
    tied = build("gpt2")
    assert "tied" in refusal(lambda: component(tied, "unembed"))


def test_heads_of_another_size_than_the_configuration_says_are_refused():
    model = build("llama")
    model.config.head_dim = 5
    assert "heads of size 5" in refusal(lambda: component(model, "l0h0"))
