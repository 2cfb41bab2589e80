"""Writing files: whole or not at all, under any name, with errors about the path that was given."""

import io
import json
import os
import stat
import struct
import zipfile

import numpy as np
import pytest

from pycomp import FormatError, quantization, sparse
from pycomp._files import write_whole


def test_interrupted_writing_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_whole(tmp_path / "a", b"old")

    def interrupted(*names):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a", b"new")
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_written_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    write_whole(tmp_path / "a", b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_file_that_was_there_hands_on_its_permissions(tmp_path):
    path = tmp_path / "a"
    for mode in (0o600, 0o640, 0o666):
        path.touch()
        path.chmod(mode)
        write_whole(path, b"new")
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert path.read_bytes() == b"new"


def test_a_link_stays_a_link_to_the_new_file(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    file, link, chain = tmp_path / "elsewhere" / "file", tmp_path / "link", tmp_path / "chain"
    link.symlink_to("elsewhere/file")
    chain.symlink_to(link)
    for path in (link, chain):
        for content in (b"new", b"newer"):  # a link to nothing makes the file
            write_whole(path, content)
            assert path.is_symlink()
            assert not file.is_symlink()
            assert file.read_bytes() == content
        file.unlink()
    assert sorted(os.listdir(tmp_path)) == ["chain", "elsewhere", "link"]
    assert os.listdir(tmp_path / "elsewhere") == []


def npz_of(header):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        text = header.encode().ljust(117) + b"\n"
        archive.writestr("data.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(4))
    return content.getvalue()


def safetensors_of(shape, size, name="data"):
    header = json.dumps({name: {"dtype": "I8", "shape": shape, "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


@pytest.mark.parametrize("load", [quantization.load, sparse.load])
@pytest.mark.parametrize(("name", "content"), [
    ("a.npz", npz_of("{'descr': '|i1', 'fortran_order': False, 'shape': (True, 4)}")),
    ("a.npz", npz_of("{'descr': '|i1', 'fortran_order': True, 'shape': (4,) + (1,) * 70}")),
    ("a.npz", npz_of("{'descr': '|i1', 'fortran_order': False, 'shape': " + str((4,) + (1,) * 70) + "}")),
    ("a.safetensors", safetensors_of([1] * 70, 1)),
    ("a.safetensors", safetensors_of([0, 2**62, 8], 0)),
    ("a.safetensors", safetensors_of([0, 2**63], 0)),
    ("a.safetensors", safetensors_of([1], 1, "two\nlines")),
])
def test_what_no_array_can_be_is_one_line_about_the_file(tmp_path, load, name, content):
    if name.endswith(".safetensors"):
        pytest.importorskip("safetensors")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=f"{name}.*") as error:
        load(tmp_path / name)
    assert "\n" not in str(error.value)


Q = quantization.quantize(np.ones(3, np.float32))


def test_a_name_as_long_as_names_can_be(tmp_path):
    path = tmp_path / ("x" * 251 + ".npz")
    quantization.save(path, Q)
    assert os.listdir(tmp_path) == [path.name]
    assert quantization.load(path).data.tobytes() == Q.data.tobytes()


@pytest.mark.parametrize(("path", "error", "message"), [
    (3, TypeError, "^path is 3, expected a str or os.PathLike$"),
    (None, TypeError, "^path is None, expected a str or os.PathLike$"),
    (b"a.npz", TypeError, "^path is b'a.npz', expected a str or os.PathLike$"),
    ("a\0b.npz", ValueError, r"^path is 'a\\x00b.npz', expected a name without a null byte$"),
])
def test_what_is_no_path_is_refused_by_name(path, error, message):
    a = sparse.CSRMatrix.from_dense(np.eye(2, dtype=np.float32))
    for call in (lambda: quantization.save(path, Q), lambda: quantization.load(path),
                 lambda: sparse.save(path, a), lambda: sparse.load(path)):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("absent/q.npz", FileNotFoundError),
        ("file/q.npz", NotADirectoryError),
        ("folder.npz", IsADirectoryError),
        ("x" * 300 + ".npz", OSError),
        ("loop.npz", OSError),
    ],
)
def test_an_error_names_the_path_that_was_given(tmp_path, name, kind):
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop.npz").symlink_to("loop.npz")
    with pytest.raises(kind) as caught:
        quantization.save(tmp_path / name, Q)
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / name), None)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.npz", "loop.npz"]
