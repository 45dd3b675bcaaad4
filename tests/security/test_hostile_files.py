"""A stranger's checkpoint runs nothing, fills no memory, reaches nothing: one line refuses it."""

import json
import pickle
import random
import resource
import struct
import zipfile

import hostile
import numpy as np
import pytest
import tally
import torch
from hostile import WEIGHTS
from safetensors.torch import save, save_file
from tiny import refusal
from torch.distributed import checkpoint as dcp

from llc import formats
from llc.checkpoints import find_checkpoints, load_weights, read_checkpoint, save_checkpoint
from llc.estimation import Estimate
from llc.formats import pickled
from llc.language import tokens
from llc.trajectory.sources import paths_of

PAYLOADS = tuple(hostile.payloads(__import__("pathlib").Path("x")))
CONTAINERS = {
    "zip": hostile.as_zip,
    "legacy": hostile.as_legacy,
    "plain": hostile.as_plain_pickle,
    "plain 4": lambda path, content: hostile.as_plain_pickle(path, content, 4),
    "plain 0": lambda path, content: hostile.as_plain_pickle(path, content, 0),
}


@pytest.fixture
def mark(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("whatever a payload would remove")
    mark = tmp_path / "executed"
    hostile.as_plain_pickle(kept / "evil.pt", hostile.Calls(open, str(mark), "w"))
    return mark


def untouched(mark):
    return not mark.exists() and (mark.parent / "kept" / "file").exists()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("container", CONTAINERS)
def test_no_pickle_is_run(tmp_path, mark, container, suffix):
    for name, payload in hostile.payloads(mark).items():
        path = tmp_path / f"step_1{suffix}"
        CONTAINERS[container](path, {"model": WEIGHTS, "extra": payload})
        message = refusal(lambda path=path: load_weights(path))
        tally.count("pickles", bad=not untouched(mark))
        assert untouched(mark), name
        if container in ("zip", "legacy") and suffix != ".safetensors":
            assert "asks for" in message
            assert "not run" in message


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_what_is_asked_for_is_listed_with_the_flag(tmp_path, container):
    path = tmp_path / "step_1.pt"
    CONTAINERS[container](path, {"model": WEIGHTS, "config": hostile.Calls(refusal, "x")})
    message = refusal(lambda: load_weights(path))
    assert "tiny.refusal" in message
    assert "--allow-globals tiny.refusal" in message
    with formats.allowing(["tiny.refusal"]):
        weights = load_weights(path)
    assert torch.equal(weights["weight"], WEIGHTS["weight"])
    assert "tiny.refusal" in refusal(lambda: load_weights(path))  # no longer than asked


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_allowed_or_not_nothing_is_run(tmp_path, mark, container):
    path = tmp_path / "step_1.pt"
    for payload in hostile.payloads(mark).values():
        CONTAINERS[container](path, {"model": WEIGHTS, "extra": payload})
        for name in pickled.asked_for(path):
            if name in pickled.ALLOWED:
                continue
            try:
                with formats.allowing([name]):
                    load_weights(path)
            except ValueError:
                pass
        tally.count("pickles", bad=not untouched(mark))
        assert untouched(mark)


@pytest.mark.parametrize("name", ["os.system", "posix.system", "subprocess.Popen", "builtins.eval"])
def test_what_no_checkpoint_needs_cannot_be_allowed(name):
    with pytest.raises(ValueError, match="cannot be allowed"), formats.allowing([name]):
        pass


@pytest.mark.parametrize("name", ["", "system", "a b.c", "../x.y", "a..b", "a.b,os.system"])
def test_what_is_no_name_cannot_be_allowed(name):
    with pytest.raises(ValueError, match="expected names as module"), formats.allowing([name]):
        pass


def test_the_environment_allows_no_more_than_the_flag(tmp_path, mark, monkeypatch):
    monkeypatch.setenv(pickled.VARIABLE, "posix.system,subprocess.Popen")
    for name in ("os.system", "subprocess"):
        hostile.as_zip(tmp_path / "step_1.pt", {"w": WEIGHTS, "x": hostile.payloads(mark)[name]})
        assert "do not trust" in refusal(lambda: load_weights(tmp_path / "step_1.pt"))
    assert untouched(mark)


def test_what_usually_lies_beside_weights_is_read_without_its_classes(tmp_path):
    import argparse
    import pathlib

    beside = {
        "loss": np.float64(0.25), "steps": np.int32(7), "history": np.arange(3.0),
        "args": argparse.Namespace(lr=0.1), "where": pathlib.Path("x"), "seen": {1, 2},
        "accuracy": np.float32(0.5), "big": np.array(1.5, dtype=">f8")[()],
    }  # fmt: skip
    torch.save({"model": WEIGHTS, **beside}, tmp_path / "step_1.pt")
    weights, numbers = read_checkpoint(tmp_path / "step_1.pt")
    assert torch.equal(weights["weight"], WEIGHTS["weight"])
    assert numbers == {"loss": 0.25, "steps": 7, "accuracy": 0.5, "big": 1.5}


def test_classes_that_a_user_declares_safe_to_torch_are_taken_as_they_are(tmp_path):
    import argparse

    torch.save({"model": WEIGHTS, "args": argparse.Namespace(lr=1)}, tmp_path / "step_1.pt")
    before = torch.serialization.get_safe_globals()
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = pickled.read_pickle(tmp_path / "step_1.pt")
    assert content["args"].lr == 1
    assert set(torch.serialization.get_safe_globals()) == set(before)


class Own(dict):
    """A container whose content no stand-in can take."""


def test_containers_of_other_classes_are_refused_in_words_of_our_own(tmp_path):
    torch.save({"model": WEIGHTS, "x": Own(a=[1])}, tmp_path / "step_1.pt")
    message = refusal(lambda: load_weights(tmp_path / "step_1.pt"))
    assert "--allow-globals" not in message  # which would lead to the next refusal
    names = pickled.asked_for(tmp_path / "step_1.pt")
    with formats.allowing([n for n in names if n.endswith(".Own")]):
        message = refusal(lambda: load_weights(tmp_path / "step_1.pt"))
    assert "weights_only" not in message
    assert "state_dict()" in message or "not a torch checkpoint" in message


def test_a_stand_in_is_no_door(tmp_path):
    # A numpy "scalar" of an object dtype would hand the object on; of a long one, read past memory.
    scalar, dtype = type(np.float64(0)).__reduce__(np.float64(0))[0], np.dtype
    for kind, raw in (("O8", b"x" * 8), ("V1000000", b"x"), ("f8", b"x"), ("U9", b"")):
        call = hostile.Calls(scalar, hostile.Calls(dtype, kind, False, True), raw)
        torch.save({"model": WEIGHTS, "x": call}, tmp_path / "step_1.pt")
        content = pickled.read_pickle(tmp_path / "step_1.pt")
        assert isinstance(content["x"], pickled.StandIn), kind


@pytest.mark.parametrize("container", CONTAINERS)
def test_asking_a_file_for_its_step_runs_nothing(tmp_path, mark, container):
    path = tmp_path / "x.pt"
    for payload in hostile.payloads(mark).values():
        CONTAINERS[container](path, {"step": 7, "epoch": payload, "extra": payload})
        assert formats.recorded(path).get("step", 7) == 7
        tally.count("pickles", bad=not untouched(mark))
        assert untouched(mark)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_asking_a_damaged_file_for_its_step_raises_nothing(tmp_path, suffix):
    whole, generator = sound(suffix), random.Random(1)
    path = tmp_path / f"x{suffix}"
    for _ in range(150):
        raw = bytearray(whole[: generator.randrange(1, len(whole) + 1)])
        for _ in range(generator.choice((0, 1, 4))):
            raw[generator.randrange(min(len(raw), 700))] = generator.randrange(256)
        path.write_bytes(raw)
        formats.recorded(path)
    for raw in (b"", b"\x80\x02" + b"]" * 10**5 + b".", b"\x80\x02(r\xff\xff\xff\x7f."):
        path.write_bytes(raw)
        assert formats.recorded(path) == {}
    (tmp_path / "model.safetensors").write_bytes(whole)
    (tmp_path / "trainer_state.json").write_text("[" * 10**5)
    assert "global_step" not in formats.recorded(tmp_path / "model.safetensors")


def test_an_attribute_of_a_class_is_named_but_never_looked_up_nor_called(tmp_path):
    """Old pickles name a scheduler's method by getattr; nothing is read of any object."""
    named = hostile.Calls(getattr, torch.optim.lr_scheduler.OneCycleLR, "_annealing_cos")
    for owner in (torch.zeros(1), WEIGHTS, "text"):
        torch.save({"w": WEIGHTS, "x": named, "y": Named(owner, "clear")}, tmp_path / "step_1.pt")
        content = pickled.read_pickle(tmp_path / "step_1.pt")
        assert issubclass(content["x"], pickled.StandIn)
        assert content["y"] is pickled.Attribute
        assert len(content["w"]) == 2
        # Nor can what stands there be called.
        torch.save(
            {"w": WEIGHTS, "y": hostile.Calls(Named(owner, "clear"))}, tmp_path / "step_1.pt"
        )
        assert "not run" in refusal(lambda: load_weights(tmp_path / "step_1.pt"))


class Named(hostile.Calls):
    """An attribute as old pickles name it: by a call of getattr, which may be called in turn."""

    def __init__(self, *arguments):
        super().__init__(getattr, *arguments)

    def __call__(self):
        raise AssertionError("pickles call it, tests do not")


# --- distributed checkpoints ---------------------------------------------------------------------


def distributed(folder):
    folder.mkdir()
    with __import__("warnings").catch_warnings():
        __import__("warnings").simplefilter("ignore")
        dcp.save({"model": WEIGHTS}, storage_writer=dcp.FileSystemWriter(folder), no_dist=True)
    return folder


@pytest.mark.parametrize("name", PAYLOADS)
def test_no_description_is_run(tmp_path, mark, name):
    folder = distributed(tmp_path / "step_1")
    for protocol in (2, 4):
        raw = pickle.dumps(hostile.payloads(mark)[name], protocol=protocol)
        (folder / ".metadata").write_bytes(raw)
        message = refusal(lambda: load_weights(folder))
        tally.count("pickles", bad=not untouched(mark))
        assert untouched(mark)
        assert "description" in message


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("pathlib", "io.FileIO"),
        ("torch.distributed.checkpoint.filesystem", "io.FileIO"),
        ("torch.distributed.checkpoint.filesystem", "torch.hub.zipfile.ZipFile"),
        ("torch.distributed.checkpoint.filesystem", "os.system"),
        ("torch", "hub.zipfile.ZipFile"),
    ],
)
def test_a_description_reaches_through_no_module_into_another(tmp_path, mark, module, name):
    folder = distributed(tmp_path / "step_1")
    raw = hostile.dotted(4, module, name, str(mark), "w")
    (folder / ".metadata").write_bytes(raw)
    assert "not run" in refusal(lambda: load_weights(folder))
    tally.count("pickles", bad=not untouched(mark))
    assert untouched(mark)


def test_parts_of_a_distributed_checkpoint_run_nothing(tmp_path, mark):
    folder = distributed(tmp_path / "step_1")
    (part,) = folder.glob("*.distcp")
    for payload in hostile.payloads(mark).values():
        size = part.stat().st_size
        hostile.as_zip(part, payload)
        raw = part.read_bytes()
        part.write_bytes(raw + b"\0" * max(0, size - len(raw)))
        refusal(lambda: load_weights(folder))
        tally.count("pickles", bad=not untouched(mark))
        assert untouched(mark)


def described(folder, change):
    from torch.distributed.checkpoint.metadata import Metadata

    known = pickle.loads((folder / ".metadata").read_bytes())
    assert isinstance(known, Metadata)
    change(known)
    (folder / ".metadata").write_bytes(pickle.dumps(known))


@pytest.mark.parametrize("place", ["../secret", "/etc/hostname", "a/../../secret", 3])
def test_a_description_names_no_file_elsewhere(tmp_path, place):
    folder = distributed(tmp_path / "step_1")
    (tmp_path / "secret").write_bytes(b"x" * 10_000)

    def change(known):
        for each in known.storage_data.values():
            each.relative_path = place

    described(folder, change)
    assert "elsewhere" in refusal(lambda: load_weights(folder))


def test_a_part_that_is_a_link_out_of_the_folder_is_not_followed(tmp_path):
    folder = distributed(tmp_path / "step_1")
    (part,) = folder.glob("*.distcp")
    part.rename(tmp_path / "elsewhere")
    part.symlink_to(tmp_path / "elsewhere")
    assert "elsewhere" in refusal(lambda: load_weights(folder))


def test_a_description_of_more_than_there_is(tmp_path):
    folder = distributed(tmp_path / "step_1")

    def change(known):
        for each in known.state_dict_metadata.values():
            each.size = torch.Size((10**6, 10**6))

    described(folder, change)
    assert "copy it again" in refusal(lambda: load_weights(folder))


# --- sizes ---------------------------------------------------------------------------------------


@pytest.fixture
def little_memory():
    """Ten gigabytes of addresses more than now: what fills memory fails here, not the machine."""
    with open("/proc/self/statm") as file:
        here = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (here + 10 * 2**30, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def compressed(path):
    torch.save({"weight": torch.zeros(4000, 4000), "bias": torch.zeros(2)}, path)
    hostile.rezipped(path, lambda name, raw: raw, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 200_000


def more_than_stored(path):
    """The pickle claims storages of a million numbers where the archive holds six."""
    torch.save({"weight": torch.arange(6.0)}, path)
    change = lambda name, raw: raw.replace(b"K\x06tq", b"J\x40\x42\x0f\x00tq")
    hostile.rezipped(path, change)


OVERSIZED = {
    "compressed": compressed,
    "overlapping": hostile.overlapping,
    "claims": more_than_stored,
    "expanded": lambda path: torch.save(hostile.expanded(), path),
    "legacy expanded": lambda path: hostile.as_legacy(path, hostile.expanded()),
    "bytearray": lambda path: torch.save(
        {"model": WEIGHTS, "x": hostile.Calls(bytearray, 10**12)}, path
    ),
    "bytes": lambda path: path.write_bytes(b"\x80\x05\x8e" + struct.pack("<Q", 2**50) + b"x."),
    "tensor": lambda path: torch.save(
        {"model": WEIGHTS, "x": hostile.Calls(torch.Tensor, 10**13)}, path
    ),
    "long line": lambda path: path.write_bytes(b"\x80\x02c" + b"a" * 10**6),
    "deep": lambda path: path.write_bytes(b"\x80\x02" + b"]" * 10**4 + b"a" * (10**4 - 1) + b"."),
}


@pytest.mark.parametrize("name", OVERSIZED)
@pytest.mark.usefixtures("little_memory")
def test_no_file_takes_more_than_its_size(tmp_path, name):
    path = tmp_path / "step_1.pt"
    OVERSIZED[name](path)
    refused = False
    try:
        refusal(lambda: load_weights(path))
        refused = True
    finally:
        tally.count("files", bad=not refused)


def test_an_archive_of_zeros_is_not_unpacked(tmp_path):
    (tmp_path / "tokens.npz").write_bytes(hostile.bomb(size=2**28 + 2**24))
    assert "would unpack to" in refusal(lambda: tokens.read(tmp_path / "tokens.npz"))
    tally.count("files")


def test_compressed_tokens_of_a_credible_size_are_read(tmp_path):
    np.savez_compressed(tmp_path / "tokens.npz", input_ids=np.zeros((1000, 64), np.int64))
    assert tokens.read(tmp_path / "tokens.npz").ids.shape == (1000, 64)


HEADERS = {
    "more than there is": "{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "negative": "{'descr': '<i8', 'fortran_order': False, 'shape': (-1, 5), }",
    "overflow": "{'descr': '<i8', 'fortran_order': False, 'shape': (4294967296, 4294967296), }",
    "void": "{'descr': '|V99999999', 'fortran_order': False, 'shape': (2,), }",
    "code": "__import__('os').system('true')",
    "deep": "(" * 3000 + ")" * 3000,
    "no dictionary": "[1, 2]",
    "bytes": "{'descr': '<i8', 'fortran_order': False, 'shape': ('a',), }",
    "unfinished": "{'descr': '<i8', 'fortran_order': False, 'shape': (1L,",
    "an alias of old": "{'descr': '|a9999', 'fortran_order': False, 'shape': (2,), }",
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_with_lying_headers(tmp_path, name, suffix):
    raw = hostile.npy(HEADERS[name], b"\0" * 64)
    path = tmp_path / f"tokens{suffix}"
    if suffix == ".npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("input_ids.npy", raw)
    else:
        path.write_bytes(raw)
    refusal(lambda: tokens.read(path))
    tally.count("files")


def test_arrays_of_objects_are_not_unpickled(tmp_path, mark):
    array = np.array([hostile.payloads(mark)["os.system"]], dtype=object)
    np.save(tmp_path / "tokens.npy", array, allow_pickle=True)
    np.savez(tmp_path / "tokens.npz", input_ids=array)
    for suffix in (".npy", ".npz"):
        assert "pickled objects" in refusal(lambda s=suffix: tokens.read(tmp_path / f"tokens{s}"))
        tally.count("pickles", bad=not untouched(mark))
    (tmp_path / "estimate.json").write_text("{}")
    (tmp_path / "tokens.npz").rename(tmp_path / "estimate.npz")
    refusal(lambda: Estimate.load(tmp_path / "estimate.json"))
    assert untouched(mark)


LYING = {
    "length": hostile.safetensors({}, length=2**60),
    "length beyond the file": hostile.safetensors({}, length=10**6),
    "shape": hostile.safetensors({"weight": hostile.tensor([10**6, 10**6], 0, 8)}, b"\0" * 8),
    "offsets beyond": hostile.safetensors({"weight": hostile.tensor([2], 0, 8000)}, b"\0" * 8),
    "offsets backwards": hostile.safetensors({"weight": hostile.tensor([2], 8, 0)}, b"\0" * 8),
    "negative": hostile.safetensors({"weight": hostile.tensor([2], -8, 8)}, b"\0" * 8),
    "overlap": hostile.safetensors(
        {"a": hostile.tensor([2], 0, 8), "b": hostile.tensor([2], 0, 8)}, b"\0" * 8
    ),
    "hole": hostile.safetensors({"a": hostile.tensor([2], 8, 16)}, b"\0" * 16),
    "dtype": hostile.safetensors({"a": hostile.tensor([2], 0, 8, "OBJECT")}, b"\0" * 8),
    "no json": hostile.safetensors(b"{" * 50),
    "deep": hostile.safetensors(b"[" * 10**5),
    "overflow": hostile.safetensors({"a": hostile.tensor([2**40, 2**40], 0, 8)}, b"\0" * 8),
    "no header": b"\x01",
    "metadata": hostile.safetensors({"__metadata__": {"a": [1]}}),
}


@pytest.mark.parametrize("name", LYING)
def test_safetensors_with_lying_headers(tmp_path, name):
    path = tmp_path / "step_1.safetensors"
    path.write_bytes(LYING[name])
    refusal(lambda: load_weights(path))
    tally.count("files")


# --- truncated, changed, mislabelled -------------------------------------------------------------


def sound(suffix):
    import io

    if suffix == ".safetensors":
        return save(WEIGHTS, {"loss": "0.5"})
    buffer = io.BytesIO()
    torch.save(
        {"model": WEIGHTS, "loss": 0.5}, buffer,
        _use_new_zipfile_serialization=suffix != ".pth",
    )  # fmt: skip
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_damaged_files_are_read_or_refused(tmp_path, suffix):
    """Cut short anywhere, or with bytes changed anywhere: tensors, or one sentence."""
    whole, generator = sound(suffix), random.Random(0)
    path = tmp_path / f"step_1{suffix}"
    for number in range(150):
        raw = bytearray(whole)
        if number % 3 == 0:
            raw = raw[: generator.randrange(len(raw))]
        for _ in range(generator.choice((0, 1, 3)) if number % 3 == 0 else number % 7 + 1):
            if raw:
                raw[generator.randrange(min(len(raw), 700))] = generator.randrange(256)
        path.write_bytes(raw)
        clean = False
        try:
            weights, _ = read_checkpoint(path)
            clean = all(isinstance(w, torch.Tensor) for w in weights.values())
        except formats.weights.InputError as error:
            clean = "\n" not in str(error)
        finally:
            tally.count("files", bad=not clean)
        assert clean


@pytest.mark.parametrize("label", [".pt", ".pth", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("content", [".pt", ".pth", ".safetensors", ".npz", ".json", ".png"])
def test_mislabelled_files(tmp_path, label, content):
    other = {
        ".npz": lambda p: np.savez(p, weight=np.zeros(3)),
        ".json": lambda p: p.write_text(json.dumps({"weight": [1, 2]})),
        ".png": lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50)),
    }
    written = tmp_path / f"x{content}"
    other.get(content, lambda p: p.write_bytes(sound(content)))(written)
    path = tmp_path / f"step_1{label}"
    written.rename(path)
    alike = label == content or {label, content} <= {".pt", ".pth", ".ckpt"}
    if alike:
        assert torch.equal(load_weights(path)["weight"], WEIGHTS["weight"])
    else:
        refusal(lambda: load_weights(path))
    tally.count("files")


# --- paths ---------------------------------------------------------------------------------------

TRICKS = ("../../x", "/etc/x", "a/../../../x", "..", "x\0y", "\n", "a" * 300, "con", "C:\\x", "~/x")


def test_names_of_parameters_become_no_paths(tmp_path):
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    weights = {name: torch.zeros(2) for name in TRICKS}
    saved = save_checkpoint(inside, 7, weights, dict.fromkeys(TRICKS, 1.0))
    assert set(saved.weights()) == set(TRICKS)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [saved.path]


def test_an_index_follows_no_link_out_of_its_folder(tmp_path):
    save_file(WEIGHTS, tmp_path / "secret.safetensors")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "part.safetensors").symlink_to(tmp_path / "secret.safetensors")
    index = inside / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(WEIGHTS, "part.safetensors")}))
    assert "a link to" in refusal(lambda: load_weights(index))


def test_the_hubs_own_cache_is_made_of_links(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    save_file(WEIGHTS, blobs / "0123")
    (snapshot / "part.safetensors").symlink_to("../../blobs/0123")
    index = snapshot / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(WEIGHTS, "part.safetensors")}))
    assert set(load_weights(index)) == set(WEIGHTS)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "step_1.pt")
    (tmp_path / "step_2.pt").symlink_to("/dev/zero")
    (tmp_path / "step_3.pt").symlink_to(tmp_path / "nowhere")
    for step in (1, 2, 3):
        assert "does not exist" in refusal(lambda s=step: load_weights(tmp_path / f"step_{s}.pt"))


def test_folders_list_names_as_they_are(tmp_path):
    for name in ("a;touch x_1.pt", "$(touch y)_2.pt", "-rf_3.pt", "<script>_4.pt"):
        torch.save(WEIGHTS, tmp_path / name)
    assert [c.step for c in find_checkpoints(tmp_path)] == [1, 2, 3, 4]
    assert len(paths_of(tmp_path)) == 4
    assert len(list(tmp_path.iterdir())) == 4
