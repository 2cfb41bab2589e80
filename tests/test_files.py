"""Writing files: whole or not at all, under any name, with errors about the path that was given."""

import os

import numpy as np
import pytest

from pycomp import quantization
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


Q = quantization.quantize(np.ones(3, np.float32))


def test_a_name_as_long_as_names_can_be(tmp_path):
    path = tmp_path / ("x" * 251 + ".npz")
    quantization.save(path, Q)
    assert os.listdir(tmp_path) == [path.name]
    assert quantization.load(path).data.tobytes() == Q.data.tobytes()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("absent/q.npz", FileNotFoundError),
        ("file/q.npz", NotADirectoryError),
        ("folder.npz", IsADirectoryError),
        ("x" * 300 + ".npz", OSError),
    ],
)
def test_an_error_names_the_path_that_was_given(tmp_path, name, kind):
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(kind) as caught:
        quantization.save(tmp_path / name, Q)
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / name), None)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.npz"]
