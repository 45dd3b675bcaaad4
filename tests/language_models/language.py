"""Causal language models so small that an estimate takes a second, and where revisions lie."""

import torch

VOCABULARY = 20


def build(kind="gpt_neox", seed=0, **changed):
    """A tiny model of transformers with random weights."""
    import transformers

    small = {
        "gpt_neox": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                     "intermediate_size": 64, "max_position_embeddings": 32},
        "llama": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
                  "num_key_value_heads": 2, "intermediate_size": 64,
                  "max_position_embeddings": 32},
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 32},
    }[kind]  # fmt: skip
    config = transformers.AutoConfig.for_model(
        kind, **{**small, "vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, **changed}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1 * torch.randn_like(p))
    return model.eval()


def tokens(count=24, length=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, VOCABULARY, (count, length), generator=generator)


def cache(hub, name, revisions):
    """Lay models out as the hub's cache does: refs name commits, snapshots hold their files."""
    place = hub / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    for number, (revision, model) in enumerate(revisions.items()):
        commit = f"{number:040x}"
        (place / "refs" / revision).write_text(commit)
        model.save_pretrained(place / "snapshots" / commit)
