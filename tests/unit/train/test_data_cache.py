"""Articles are encoded once, and a cache that is damaged or half written is never believed."""

import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from commprof.commbench.errors import BadInput
from commprof.train.config.types import DataConfig, ModelConfig
from commprof.train.text.dataset import prepare_data
from tests.ag_news import EVAL_CSV, MODEL, TRAIN_CSV, cache_files, digest
from tests.forked import DEADLINE_S


def test_encodes_once(data: DataConfig, encodings: list[ModelConfig]) -> None:
    first = prepare_data(data, MODEL)
    second = prepare_data(data, MODEL)
    assert len(encodings) == 1
    assert digest(first) == digest(second)
    assert all(array.flags.writeable for part in second for array in (part.tokens, part.labels))
    assert [stat.S_IMODE(path.stat().st_mode) for path in cache_files(data)] == [0o644]


def test_encodes_again_when_content_or_options_differ(data: DataConfig, encodings: list[ModelConfig]) -> None:
    small = replace(MODEL, vocabulary=5)
    for model in (MODEL, small, replace(MODEL, sequence_length=8)):
        prepare_data(data, model)
    prepare_data(replace(data, train_first=1), small)
    prepare_data(replace(data, eval_last=1), small)
    Path(data.eval_csv).write_bytes(EVAL_CSV + EVAL_CSV)
    prepare_data(data, small)
    Path(data.train_csv).write_bytes(TRAIN_CSV + TRAIN_CSV)
    _, evaluation = prepare_data(data, small)
    assert len(encodings) == 7 == len(cache_files(data))
    assert len(evaluation.labels) == 4


def test_the_place_of_a_file_does_not_matter(data: DataConfig, encodings: list[ModelConfig], tmp_path: Path) -> None:
    prepare_data(data, MODEL)
    Path(data.train_csv).rename(tmp_path / "elsewhere.csv")
    prepare_data(replace(data, train_csv=str(tmp_path / "elsewhere.csv")), MODEL)
    assert len(encodings) == 1


def save(path: Path, **changes: object) -> None:
    with np.load(path) as arrays:
        np.savez(path, **{**arrays, **changes})


def change_zip_headers(path: Path, offset: int, bits: int) -> None:
    """Flip bits of the first array's entry, in its own header and in the archive's directory (two bytes further on)."""
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x03\x04") + offset] ^= bits
    raw[raw.index(b"PK\x01\x02") + offset + 2] ^= bits
    path.write_bytes(raw)


def call_compressed(path: Path) -> None:
    change_zip_headers(path, 8, 8)
    path.write_bytes(path.read_bytes().replace(b"\x93NUMPY", b"\xff" * 6))


def claim_huge_array(path: Path) -> None:
    header = "{'descr': '<i4', 'fortran_order': False, 'shape': (1000000000000000, 9), }".ljust(117) + "\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("training_tokens.npy", b"\x93NUMPY\x01\x00" + bytes([118, 0]) + header.encode())


def replace_member(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for part in ("training", "evaluation"):
            archive.writestr(f"{part}_tokens.npy", b"not an array")
            archive.writestr(f"{part}_labels.npy", b"not an array")


def flip_a_bit(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"NUMPY") + 130] ^= 1
    path.write_bytes(raw)


def test_a_flipped_bit_anywhere_in_the_arrays_is_noticed(data: DataConfig, encodings: list[ModelConfig]) -> None:
    """Words stay within the vocabulary when their lowest bit changes, so that only the checksum can tell."""
    intact = prepare_data(data, MODEL)
    (path,) = cache_files(data)
    with zipfile.ZipFile(path) as archive:
        members = [(info.header_offset, info.file_size, info.filename) for info in archive.infolist()]
    good = path.read_bytes()
    assert len(members) == 4
    for offset, size, name in members:
        begin = good.index(b"\x93NUMPY", offset)
        width = 4 if "tokens" in name else 8
        for place in (begin + 128, begin + size - width):  # an array's first and last number, behind numpy's header
            spoiled = bytearray(good)
            spoiled[place] ^= 1
            path.write_bytes(spoiled)
            del encodings[:]
            assert digest(prepare_data(data, MODEL)) == digest(intact)
            assert len(encodings) == 1, f"{name} at {place}"


def write_bare_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


SPOILED: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "text": lambda path: path.write_text("hello"),
    "bare array": write_bare_array,
    "flipped bit": flip_a_bit,
    "encrypted": lambda path: change_zip_headers(path, 6, 1),
    "called compressed": call_compressed,
    "huge shape": claim_huge_array,
    "not arrays": replace_member,
    "pickle": lambda path: save(path, training_tokens=np.array([print, None], dtype=object)),
    "missing array": lambda path: np.savez(path, training_tokens=np.zeros((2, 9), dtype=np.int32)),
    "token beyond the vocabulary": lambda path: save(path, training_tokens=np.full((2, 9), 13, dtype=np.int32)),
    "negative token": lambda path: save(path, evaluation_tokens=np.array([[1] * 8 + [-1]] * 2, dtype=np.int32)),
    "row of padding": lambda path: save(path, training_tokens=np.zeros((2, 9), dtype=np.int32)),
    "label 4": lambda path: save(path, training_labels=np.array([0, 4])),
    "negative label": lambda path: save(path, training_labels=np.array([0, -1])),
    "float tokens": lambda path: save(path, training_tokens=np.ones((2, 9))),
    "narrow labels": lambda path: save(path, training_labels=np.zeros(2, dtype=np.int32)),
    "labels in two dimensions": lambda path: save(path, training_labels=np.zeros((2, 1), dtype=np.int64)),
    "short rows": lambda path: save(path, training_tokens=np.ones((2, 8), dtype=np.int32)),
    "more rows than labels": lambda path: save(path, training_tokens=np.ones((3, 9), dtype=np.int32)),
    "no rows": lambda path: save(
        path, training_tokens=np.ones((0, 9), dtype=np.int32), training_labels=np.zeros(0, dtype=np.int64)
    ),
}


@pytest.mark.parametrize("damage", SPOILED)
def test_a_damaged_cache_is_built_again(data: DataConfig, encodings: list[ModelConfig], damage: str) -> None:
    intact = prepare_data(data, MODEL)
    (path,) = cache_files(data)
    SPOILED[damage](path)
    assert digest(prepare_data(data, MODEL)) == digest(intact)
    assert digest(prepare_data(data, MODEL)) == digest(intact)
    assert len(encodings) == 2
    assert cache_files(data) == [path]


@pytest.mark.parametrize("folder", [__file__, __file__ + "/cache", "a\0b", "~nobody-by-this-name/cache"])
def test_a_cache_that_cannot_be_written_is_named(data: DataConfig, folder: str) -> None:
    with pytest.raises(BadInput, match=r"data\.cache_dir.*; name a folder you may write to"):
        prepare_data(replace(data, cache_dir=folder), MODEL)


def test_a_full_disk_leaves_nothing_half_written(data: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fill)
    with pytest.raises(BadInput, match=r"data\.cache_dir: cannot write .*No space left"):
        prepare_data(data, MODEL)
    assert cache_files(data) == []


def test_the_cache_lies_in_the_home_that_the_tilde_names(
    data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    prepare_data(replace(data, cache_dir="~/deep/cache"), MODEL)
    assert len(list((tmp_path / "home/deep/cache").iterdir())) == 1


# Several processes

IN_A_PROCESS = """
import hashlib, sys, time
from pathlib import Path
from commprof.train.text import dataset
from commprof.train.config.types import DataConfig, ModelConfig

folder, index, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
save = dataset._save_encoded

def save_together(*arguments):
    (folder / f"ready{index}").touch()
    deadline = time.monotonic() + 120
    while len(list(folder.glob("ready*"))) < count and time.monotonic() < deadline:
        time.sleep(0.005)
    save(*arguments)

dataset._save_encoded = save_together
data = DataConfig(synthetic_articles=300, cache_dir=str(folder / "cache"))
parts = dataset.prepare_data(data, ModelConfig(vocabulary=1500))
assert "torch" not in sys.modules
print(hashlib.sha256(b"".join(part.tokens.tobytes() + part.labels.tobytes() for part in parts)).hexdigest())
"""


SHARED_CACHE: dict[str, Callable[[Path], object]] = {
    "none yet": Path.unlink,
    "cut": SPOILED["cut"],
    "flipped bit": flip_a_bit,
    "short rows": SPOILED["short rows"],
}


@pytest.mark.processes
@pytest.mark.parametrize("state", SHARED_CACHE)
def test_processes_that_encode_at_once_agree_and_leave_one_cache(tmp_path: Path, state: str) -> None:
    data, model = DataConfig(synthetic_articles=300, cache_dir=str(tmp_path / "cache")), ModelConfig(vocabulary=1500)
    expected = digest(prepare_data(data, model))
    SHARED_CACHE[state](cache_files(data)[0])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", IN_A_PROCESS, str(tmp_path), str(index), "3"],
            env={**os.environ, "PYTHONHASHSEED": str(index)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(3)
    ]
    digests = {process.communicate(timeout=DEADLINE_S)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(list(tmp_path.glob("ready*"))) == 3, "every process encoded for itself"
    assert len(cache_files(data)) == 1
    assert digests == {expected}
    assert digest(prepare_data(data, model)) == expected
