"""Files that would run something, fill memory, or reach for other files, if they were believed."""

import io
import json
import os
import pathlib
import pickle
import shutil
import struct
import subprocess
import zipfile

import numpy as np
import torch

WEIGHTS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}


class Calls:
    """Unpickled by the book, it calls a function with arguments of the file's choice."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def payloads(mark):
    """Name → an object whose unpickling makes the file ``mark``."""
    code = f"open({str(mark)!r}, 'w').close()"
    return {
        "os.system": Calls(os.system, f"touch {mark}"),
        "subprocess": Calls(subprocess.Popen, ["touch", str(mark)]),
        "check_call": Calls(subprocess.check_call, ["touch", str(mark)]),
        "eval": Calls(eval, f"__import__('pathlib').Path({str(mark)!r}).touch()"),
        "exec": Calls(exec, code),
        "open": Calls(open, str(mark), "w"),
        "FileIO": Calls(io.FileIO, str(mark), "w"),
        "ZipFile": Calls(zipfile.ZipFile, str(mark), "w"),
        "touch": Calls(pathlib.Path.touch, pathlib.Path(mark)),
        "getattr": Calls(getattr, Calls(__import__, "os"), "system"),
        "mkdir": Calls(os.makedirs, str(mark)),
        "rmtree": Calls(shutil.rmtree, str(mark.parent / "kept")),
        "torch.load": Calls(torch.load, str(mark.parent / "kept" / "evil.pt")),
    }


def dotted(protocol, module, name, *arguments):
    """A pickle of protocol 4 on that reaches through one module's attributes into another's."""
    text = lambda s: b"\x8c" + bytes([len(s)]) + s.encode()
    body = text(module) + text(name) + b"\x93"
    inside = b"(" + b"".join(text(a) for a in arguments) + b"t"
    return b"\x80" + bytes([protocol]) + body + inside + b"R."


def as_zip(path, content):
    torch.save(content, path)


def as_legacy(path, content):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def as_plain_pickle(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def rezipped(path, change, compression=zipfile.ZIP_STORED):
    """A torch archive with its pickle, or all entries, changed by a function of (name, bytes)."""
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, raw in entries:
            archive.writestr(name, change(name, raw))


def overlapping(path, count=200, size=200_000):
    """A zip whose table lists one stored entry many times over."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", b"\0" * size)
        entry = archive.infolist()[1]
        for number in range(1, count):
            again = zipfile.ZipInfo(f"archive/data/{number}")
            for name in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(again, name, getattr(entry, name))
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again


def npy(header, data=b""):
    """A .npy file with a header of one's own wording."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def safetensors(header, data=b"", length=None):
    """A .safetensors file with a header, and a length of it, of one's own wording."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def bomb(entries=1, size=2**31):
    """An .npz of a few hundred kilobytes that unpacks to gigabytes of zeros."""
    buffer = io.BytesIO()
    header = npy(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({size // 8},), }}")
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for number in range(entries):
            with archive.open(f"input_ids{number}.npy", "w", force_zip64=True) as file:
                file.write(header)
                for _ in range(size // 2**24):
                    file.write(bytes(2**24))
    return buffer.getvalue()


def expanded():
    """A state dict of few stored numbers that claims to be terabytes."""
    return {"weight": torch.zeros(1).expand(10**6, 10**6), "bias": torch.zeros(2)}


def object_array():
    return np.array([Calls(os.system, "true")], dtype=object)
