"""IDX files: what is read, and what is refused in one line."""

import contextlib
import gzip
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pycomp
from pycomp.compare.data import load
from pycomp.compare.idx import read_idx


def idx(array, code=0x08, sizes=None):
    sizes = array.shape if sizes is None else sizes
    return struct.pack(f">2xBB{len(sizes)}I", code, len(sizes), *sizes) + array.tobytes()


IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
BAD = {
    "empty": b"",
    "another format": b"PK\3\4" + bytes(30),
    "floats": idx(IMAGES, code=0x0D),
    "dimensions": idx(IMAGES[0]),
    "header cut short": idx(IMAGES)[:9],
    "data cut short": idx(IMAGES)[:-1],
    "data too long": idx(IMAGES) + b"x",
    "sizes above the file": idx(IMAGES, sizes=(2**32 - 1, 2**32 - 1, 2**32 - 1)),
    "size of 2**40 in a gzip file": gzip.compress(idx(IMAGES, sizes=(2**20, 2**10, 2**10))),
    "gzip cut short": gzip.compress(idx(IMAGES))[:-12],
    "gzip damaged": gzip.compress(idx(IMAGES))[:-8] + bytes(8),
    "gzip of another format": gzip.compress(b"text"),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_reads_what_was_written(tmp_path, pack):
    (tmp_path / "a").write_bytes(pack(idx(IMAGES)))
    np.testing.assert_array_equal(read_idx(tmp_path / "a", 3), IMAGES)


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_a_bad_file_is_a_format_error_of_one_line(tmp_path, content):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(pycomp.FormatError) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10**6), value=st.integers(0, 255), zipped=st.booleans())
def test_one_changed_byte_gives_an_array_or_a_format_error(tmp_path, position, value, zipped):
    content = bytearray(gzip.compress(idx(IMAGES), mtime=0) if zipped else idx(IMAGES))
    content[position % len(content)] = value
    (tmp_path / "a").write_bytes(content)
    with contextlib.suppress(pycomp.FormatError):
        assert read_idx(tmp_path / "a", 3).dtype == np.uint8


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for part, n in (("train", 30), ("t10k", 20)):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(rng.integers(0, 256, (n, 4, 4), dtype=np.uint8)))
        labels = idx(np.arange(n, dtype=np.uint8) % 10)
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return tmp_path


def test_fashion_mnist_is_read_from_a_folder(folder):
    data = load("fashion-mnist", folder)
    assert data.train_x.shape == (30, 16)
    assert data.test_x.dtype == np.float32
    assert 0 <= data.train_x.min() <= data.train_x.max() <= 1
    assert list(data.test_y[:11]) == [*range(10), 0]
    np.testing.assert_array_equal(load("fashion-mnist", str(folder)).train_x, data.train_x)


def test_a_missing_file_is_named(folder):
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="t10k-labels-idx1-ubyte"):
        load("fashion-mnist", folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-labels-idx1-ubyte.gz", gzip.compress(idx(np.zeros(29, np.uint8)), mtime=0), "30 images .* 29 labels"),
        ("train-labels-idx1-ubyte.gz", gzip.compress(idx(np.full(30, 10, np.uint8)), mtime=0),
         "label 10 is not below 10"),
        ("t10k-images-idx3-ubyte", idx(np.zeros((20, 4, 5), np.uint8)), "16 pixels, held-out ones 20"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(pycomp.FormatError, match=message):
        load("fashion-mnist", folder)


def test_digits_take_no_folder(tmp_path):
    with pytest.raises(ValueError, match="fashion-mnist"):
        load("digits", tmp_path)
