"""Arrays of libraries that offer DLPack alone: every family reads them, and none writes over them."""

import numpy as np
import pytest

from pycomp import dense, distillation, pruning
from pycomp.quantization import Linear, fake_quantize, matmul_int8, onnx_ops, quantize
from pycomp.sparse import CSRMatrix, linear
from pycomp.sparse import matmul_int8 as sparse_matmul_int8

X = np.ones((2, 3), np.float32)
CODES = np.ones((2, 3), np.int8)
VARIED = np.arange(6, dtype=np.float32).reshape(2, 3)


class Capsule:
    """An array of another library that offers DLPack alone."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_arrays_that_offer_dlpack_alone_are_taken():
    zeros = np.array([1, 2], np.int32)
    assert (quantize(Capsule(X)).data == 127).all()
    assert (Linear(Capsule(X), Capsule(X[0, :2]))(Capsule(X)) == Linear(X, X[0, :2])(X)).all()
    assert (matmul_int8(Capsule(CODES), Capsule(CODES.T), a_zero_point=Capsule(zeros)) == [[0, 0], [-3, -3]]).all()
    assert (quantize(X, axis=0, scale=Capsule(X[:, 0].copy()), zero_point=Capsule(zeros)).data.T == [2, 3]).all()
    negative = CSRMatrix.from_dense(-CODES)
    assert (sparse_matmul_int8(Capsule(-CODES), negative) == 3).all()
    assert (sparse_matmul_int8(Capsule(CODES.astype(np.uint8)), negative) == -3).all()
    with pytest.raises(TypeError, match="x has dtype float32, expected int8 or uint8"):
        sparse_matmul_int8(Capsule(X), negative)
    with pytest.raises(TypeError, match="x is a list, expected an array of int8 or uint8"):
        sparse_matmul_int8([[1, 2, 3]], negative)
    with pytest.raises(TypeError, match=r"^x has dtype float64, expected float32; convert it with x\.astype"):
        quantize(Capsule(X.astype(np.float64)))
    with pytest.raises(TypeError, match="x has dtype int8, expected float32, or codes with their scale"):
        Linear(X)(Capsule(CODES))
    x = X.copy()
    with pytest.raises(ValueError, match="out overlaps an input"):
        fake_quantize(Capsule(x), 1.0, out=x)
    assert (x == 1).all()


@pytest.mark.parametrize("kind", [BufferError, RuntimeError, TypeError, ValueError])
@pytest.mark.parametrize("door", ["__dlpack__", "__array__"])
def test_an_array_that_cannot_be_handed_over_is_refused_in_one_line(kind, door):
    def refuse(*arguments, **options):
        raise kind("on another\ndevice")

    Elsewhere = type("Elsewhere", (Capsule,), {door: refuse})
    for call in (quantize, Linear(X)):
        with pytest.raises(TypeError, match=r"^x is a Elsewhere that NumPy cannot read \(on another device\), exp"):
            call(Elsewhere(X))


@pytest.mark.parametrize("call", [
    lambda a: dense.linear(a(X), a(X)),
    lambda a: distillation.softmax(a(X)),
    lambda a: distillation.kd_loss(a(X), a(VARIED)),
    lambda a: distillation.hint_loss(a(X), a(VARIED)),
    lambda a: onnx_ops.quantize_linear(a(X), a(X[0, :1].reshape(()))),
    lambda a: onnx_ops.matmul_integer(a(CODES), a(CODES.T)),
    lambda a: pruning.unstructured_mask(a(VARIED), 0.5),
    lambda a: CSRMatrix.from_dense(a(X.astype(np.float16))).to_dense(),
    lambda a: CSRMatrix.from_dense(a(CODES)).to_dense(),
    lambda a: linear(a(X), CSRMatrix.from_dense(a(X)), a(X[0, :2])),
])
def test_every_family_takes_them(call):
    expected = call(lambda array: array)
    assert np.array_equal(call(Capsule), expected)
