"""Token data of every kind become the same sequences; nothing is cut, padded or masked unsaid."""

import json

import numpy as np
import pytest
import torch
from tiny import refusal

from llc.language import tokens
from llc.language.tokens import IGNORED, read


def letters(text):
    """A tokenizer: a is 1."""
    return [ord(c) - 96 for c in text]


class Tokenizer:
    """What those of Hugging Face look like."""

    is_fast, eos_token_id = True, 0

    def encode(self, text, add_special_tokens=True, verbose=True):
        assert not add_special_tokens
        return letters(text)


DOCUMENTS = ["abc", "de", "fghij"]
JOINED = [1, 2, 3, 0, 4, 5, 0, 6, 7, 8, 9, 10]


def jsonl(path, entry="text", documents=DOCUMENTS):
    path.write_text("".join(json.dumps({entry: d}) + "\n\n" for d in documents))
    return path


def dataset(path, columns):
    import datasets

    datasets.Dataset.from_dict(columns).save_to_disk(path)
    return path


def test_documents_are_joined_with_their_ends_between(tmp_path):
    expected = torch.tensor(JOINED).reshape(3, 4)
    sources = {
        "list": DOCUMENTS,
        "jsonl": jsonl(tmp_path / "a.jsonl"),
        "ids": jsonl(tmp_path / "b.jsonl", documents=[letters(d) for d in DOCUMENTS]),
        "dataset": dataset(tmp_path / "text", {"text": DOCUMENTS}),
        "columns": dataset(tmp_path / "ids", {"input_ids": [letters(d) for d in DOCUMENTS]}),
    }
    for name, source in sources.items():
        found = read(source, tokenizer=Tokenizer(), length=4)
        assert torch.equal(found.ids, expected), name
        assert torch.equal(found.labels, expected), name


def test_text_is_one_document(tmp_path):
    (tmp_path / "a.txt").write_text("abcdefghij")
    found = read(tmp_path / "a.txt", tokenizer=letters, length=4)
    assert found.ids.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_arrays(tmp_path):
    rows = np.arange(24, dtype=np.uint16).reshape(3, 8)
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "run.npy", rows.ravel())
    assert read(tmp_path / "rows.npy").ids.tolist() == rows.tolist()
    for name in ("rows.npy", "run.npy"):
        found = read(tmp_path / name, length=4, limit=5)
        assert found.ids.tolist() == rows.reshape(6, 4)[:5].tolist()
        assert found.ids.dtype == torch.int64
    assert read(torch.arange(24).reshape(3, 8), length=4).ids.shape == (6, 4)


def test_padded_documents_have_no_label_behind_their_end():
    found = read(DOCUMENTS, tokenizer=letters, padded=True, length=4)
    assert found.ids.tolist() == [[1, 2, 3, 0], [4, 5, 0, 0], [6, 7, 8, 9]]
    assert found.labels.tolist() == [[1, 2, 3, IGNORED], [4, 5, IGNORED, IGNORED], [6, 7, 8, 9]]


@pytest.mark.parametrize("side", ["right", "left"])
def test_masks_become_labels(tmp_path, side):
    ids = np.array([[1, 2, 3, 0], [4, 5, 0, 0], [6, 7, 8, 9]])
    mask = (ids > 0).astype(int)
    if side == "left":
        ids[0], ids[1] = [0, 1, 2, 3], [0, 0, 4, 5]
        mask = (ids > 0).astype(int)
    np.savez(tmp_path / "a.npz", input_ids=ids, attention_mask=mask)
    columns = {"input_ids": ids.tolist(), "attention_mask": mask.tolist()}
    for source in (tmp_path / "a.npz", dataset(tmp_path / "set", columns)):
        found = read(source)
        assert found.ids.tolist() == [[1, 2, 3, 0], [4, 5, 0, 0], [6, 7, 8, 9]]
        assert found.labels.tolist() == [
            [1, 2, 3, IGNORED], [4, 5, IGNORED, IGNORED], [6, 7, 8, 9],
        ]  # fmt: skip


def test_labels_of_their_own(tmp_path):
    ids = np.array([[1, 2, 3, 4]])
    labels = np.array([[IGNORED, IGNORED, 3, 4]])
    np.savez(tmp_path / "a.npz", input_ids=ids, labels=labels)
    assert read(tmp_path / "a.npz").labels.tolist() == labels.tolist()


def test_what_cannot_be_read(tmp_path):
    (tmp_path / "a.csv").write_text("a")
    np.save(tmp_path / "f.npy", np.ones((2, 3)))
    (tmp_path / "bad.jsonl").write_text("{\n")
    assert "does not exist" in refusal(lambda: read(tmp_path / "none.npy"))
    assert ".jsonl" in refusal(lambda: read(tmp_path / "a.csv"))
    assert "float64" in refusal(lambda: read(tmp_path / "f.npy"))
    assert "no JSON" in refusal(lambda: read(tmp_path / "bad.jsonl"))
    assert "'body'" in refusal(lambda: read(jsonl(tmp_path / "a.jsonl"), field="body"))
    assert "tokenizer" in refusal(lambda: read(DOCUMENTS))
    assert "smaller length" in refusal(lambda: read(DOCUMENTS, tokenizer=letters, length=99))
    assert "divides" in refusal(lambda: read(torch.arange(24).reshape(3, 8), length=5))
    assert "at least 2" in refusal(lambda: read(DOCUMENTS, length=1))
    assert "float32" in refusal(lambda: read(torch.ones(2, 3)))
    ids = torch.arange(8).reshape(2, 4)
    holes = torch.tensor([[1, 0, 1, 1], [1, 1, 1, 1]])
    assert "holes" in refusal(lambda: tokens.masked(ids, None, holes))
    assert "one label" in refusal(lambda: tokens.masked(ids, ids[:, :3], None))
