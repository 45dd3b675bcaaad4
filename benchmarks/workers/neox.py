"""A GPT-NeoX of ten million weights, trained for a few minutes on text that is at hand.

Tokens are those of a byte-level BPE of 4,096 words, trained on the same text: this project's pages
and Python's own standard library.
"""

import math
import sysconfig
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

LENGTH = 129
VOCABULARY = 4096
SHAPE = {
    "hidden_size": 320, "num_hidden_layers": 6, "num_attention_heads": 5,
    "intermediate_size": 1280, "max_position_embeddings": 128, "vocab_size": VOCABULARY,
}  # fmt: skip
BATCH, RATE, WARM = 8, 3e-3, 30
HELD_OUT = 64


def texts():
    """This project's pages, then the modules of the standard library, by name."""
    root = Path(__file__).parents[2]
    pages = sorted([*root.glob("*.md"), *root.glob("docs/**/*.md")])
    library = Path(sysconfig.get_paths()["stdlib"])
    modules = sorted([*library.glob("*.py"), *library.glob("*/*.py")])
    kept = [m for m in modules if not {"site-packages", "test", "lib2to3"} & set(m.parts)]
    return [p.read_text(encoding="utf-8", errors="replace") for p in [*pages, *kept]]


def tokenize(folder):
    """Train a tokenizer, and write tokens in sequences, in an order of their own."""
    from tokenizers import ByteLevelBPETokenizer

    found = texts()
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(found, vocab_size=VOCABULARY, show_progress=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = np.concatenate([part.ids for part in tokenizer.encode_batch(found)])
    rows = ids[: len(ids) // LENGTH * LENGTH].reshape(-1, LENGTH).astype(np.int64)
    rows = np.random.default_rng(0).permutation(rows)
    np.save(folder / "tokens.npy", rows)
    return torch.from_numpy(rows)


def model():
    """Random weights."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    return GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE, bos_token_id=0, eos_token_id=0))


def loss_of(network, rows):
    logits = network(rows[:, :-1], use_cache=False).logits
    return nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


def train(folder, steps):
    """Write `save_pretrained` weights to FOLDER/model, and say what they are worth."""
    folder.mkdir(parents=True, exist_ok=True)
    there = folder / "tokens.npy"
    rows = torch.from_numpy(np.load(there)) if there.exists() else tokenize(folder)
    network = model().train()
    count = sum(p.numel() for p in network.parameters())
    print(f"{count:,} weights, {rows.numel():,} tokens", flush=True)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, (0.9, 0.95), weight_decay=0.1)
    generator, started = torch.Generator().manual_seed(1), time.perf_counter()
    for step in range(steps):
        share = min((step + 1) / WARM, 0.55 + 0.45 * math.cos(math.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = RATE * share
        pick = torch.randint(HELD_OUT, len(rows), (BATCH,), generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(network, rows[pick])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        if step % 20 == 0 or step == steps - 1:
            spent = time.perf_counter() - started
            print(f"step {step}: {loss.item():.3f} nats a token [{spent:.0f} s]", flush=True)
    with torch.no_grad():
        held = loss_of(network.eval(), rows[:HELD_OUT])
    print(f"held out: {held:.3f} nats a token")
    network.save_pretrained(folder / "model")
