"""Tensors come back from files as they were; anything else in a file is a FormatError; no half-written file is left."""

import contextlib
import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import pycomp
from pycomp.quantization import QuantizedTensor, load, quantize, save

FINITE = st.floats(-1000, 1000, width=32)
arrays = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6), elements=FINITE)


def suffixes():
    return [".npz", pytest.param(".safetensors", marks=pytest.mark.skipif(not _has_safetensors(), reason="absent"))]


def _has_safetensors():
    try:
        import safetensors  # noqa: F401
    except ImportError:
        return False
    return True


def same(a, b):
    assert (a.axis, a.group_size, a.bits) == (b.axis, b.group_size, b.bits)
    for x, y in ((a.data, b.data), (a.scale, b.scale), (a.zero_point, b.zero_point)):
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


@given(arrays, st.booleans(), st.sampled_from(["int8", "uint8"]), st.data())
def test_a_dictionary_of_arrays_gives_the_tensor_again(x, symmetric, dtype, data):
    axis = data.draw(st.none() | st.integers(0, x.ndim - 1)) if x.ndim else None
    group_size = data.draw(st.sampled_from([None, 1])) if x.ndim else None
    q = quantize(x, axis=axis, group_size=group_size, symmetric=symmetric, dtype=dtype)
    same(QuantizedTensor.from_dict(q.to_dict()), q)


@pytest.mark.parametrize("suffix", suffixes())
@settings(max_examples=20, deadline=None)
@given(x=arrays, data=st.data())
def test_a_file_gives_the_tensor_again(tmp_path_factory, suffix, x, data):
    axis = data.draw(st.none() | st.integers(0, x.ndim - 1)) if x.ndim else None
    q = quantize(x, axis=axis, group_size=data.draw(st.sampled_from([None, 1])) if x.ndim else None)
    path = tmp_path_factory.getbasetemp() / f"q{suffix}"
    save(path, q)
    same(load(path), q)


Q = quantize(np.arange(48, dtype=np.float32).reshape(4, 12), group_size=4, symmetric=False, dtype="uint8")


@pytest.mark.parametrize("suffix", suffixes())
def test_a_file_cut_or_changed_anywhere_is_refused_or_a_valid_tensor(tmp_path, suffix):
    path = tmp_path / f"q{suffix}"
    save(path, Q)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(pycomp.FormatError) as caught:
            load(path)
        assert "\n" not in str(caught.value)
    for i in range(len(whole)):
        for flip in (1, 0x80):
            path.write_bytes(whole[:i] + bytes([whole[i] ^ flip]) + whole[i + 1 :])
            with contextlib.suppress(pycomp.FormatError):
                assert isinstance(load(path), QuantizedTensor)


def npz(**members):
    buffer = io.BytesIO()
    np.savez(buffer, **members)
    return buffer.getvalue()


def zipped(content, name="data.npy", **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def claiming(shape, dtype="|i1", version=b"\x01\x00"):
    """The bytes of an .npy file whose header claims a shape, and 12 bytes of data."""
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header + bytes(12)


def test_bytes_of_other_machines_are_turned(tmp_path):
    swapped = {name: np.asarray(a).astype(np.asarray(a).dtype.newbyteorder()) for name, a in Q.to_dict().items()}
    swapped["data"] = np.asfortranarray(swapped["data"])
    assert not swapped["scale"].dtype.isnative
    assert not swapped["data"].flags.c_contiguous
    (tmp_path / "q.npz").write_bytes(npz(**swapped))
    read = load(tmp_path / "q.npz")
    assert read.data.flags.c_contiguous
    for name, a in read.to_dict().items():
        assert (np.asarray(a).dtype, np.asarray(a).tobytes()) == (
            np.asarray(Q.to_dict()[name]).dtype, np.asarray(Q.to_dict()[name]).tobytes())


class Trap:
    """Unpickling it shows."""

    def __reduce__(self):
        return os.putenv, ("PYCOMP_TRAP", "sprung")


GOOD = Q.to_dict()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a whole .npz file"),
        (b"something else", "not a whole .npz file"),
        (pickle.dumps(Trap()), "not a whole .npz file"),
        (npz(**{**GOOD, "data": np.array([Trap()], object)}), "data"),
        (npz(**{k: v for k, v in GOOD.items() if k != "scale"}), "arrays lack scale"),
        (npz(**GOOD, more=np.zeros(3)), "arrays hold more"),
        (npz(**{**GOOD, "scale": GOOD["scale"][:2]}), "scale has shape"),
        (npz(**{**GOOD, "scale": -GOOD["scale"]}), "scale holds -"),
        (npz(**{**GOOD, "scale": GOOD["scale"].astype(np.float64)}), "scale has dtype float64"),
        (npz(**{**GOOD, "zero_point": GOOD["zero_point"] + 999}), "zero_point holds"),
        (npz(**{**GOOD, "data": GOOD["data"].astype(np.int16)}), "data has dtype int16"),
        (npz(**{**GOOD, "bits": np.array(4)}), "bits is 4"),
        (npz(**{**GOOD, "bits": np.array([8])}), "bits is an array"),
        (npz(**{**GOOD, "axis": np.array(1.0)}), "axis is an array float64"),
        (npz(**{**GOOD, "axis": np.array(7)}), "axis is 7"),
        (npz(**{**GOOD, "group_size": np.array(5)}), "group_size"),
        (zipped(claiming((2**60,))), "claims int8"),
        (zipped(claiming((2**32, 2**32))), "claims int8"),
        (zipped(claiming((-12,))), "claims int8"),
        (zipped(claiming((12,), "|O")), "claims object (12,), but pickled objects are not read"),
        (zipped(claiming((12,), version=b"\x09\x00")), "no header of an array"),
        (zipped(b"no array"), "no header of an array"),
        (zipped(claiming((12,)).replace(b"}", b"(")), "no header of an array"),
        (zipped(claiming((12,)).replace(b"'descr'", b"b'desc'")), "no header of an array"),
        (zipped(claiming((12,)), compression=zipfile.ZIP_LZMA), "is compressed in a way that is not known"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",  # bytes of archives tell when they were made
)
def test_what_is_not_a_tensor_is_refused(tmp_path, content, message):
    path = tmp_path / "q.npz"
    path.write_bytes(content)
    with pytest.raises(pycomp.FormatError) as caught:
        load(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "PYCOMP_TRAP" not in os.environ


def test_a_member_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "q.npz"
    path.write_bytes(npz(**GOOD))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("data.npy", claiming((12,)))
    with pytest.raises(pycomp.FormatError, match="data is there twice"):
        load(path)


@pytest.mark.parametrize("suffix", suffixes())
def test_an_interruption_leaves_the_old_file_and_nothing_else(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"q{suffix}"
    save(path, Q)
    before = path.read_bytes()
    other = quantize(np.ones(3, np.float32))
    for step in ("fsync", "replace"):

        def interrupted(*arguments):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(os, step, interrupted)
            with pytest.raises(KeyboardInterrupt):
                save(path, other)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == [path.name]
    save(path, other)
    same(load(path), other)


def test_the_same_tensor_gives_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        save(tmp_path / name, Q)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_other_names_and_objects_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected a name that ends in \.npz or \.safetensors"):
        save(tmp_path / "q.bin", Q)
    with pytest.raises(ValueError, match="expected a name"):
        load(tmp_path / "q")
    with pytest.raises(TypeError, match="expected a QuantizedTensor"):
        save(tmp_path / "q.npz", np.zeros(3))
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent.npz")
    assert os.listdir(tmp_path) == []


def test_without_safetensors_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r"pip install 'pycomp\[formats\]'"):
        save(tmp_path / "q.safetensors", Q)
