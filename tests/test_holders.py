"""What holds arrays hands out views: what somebody sets of them is theirs alone, and kernels never see it."""

import numpy as np
import pytest

from pycomp import dense, quantization, sparse

W = np.where(np.arange(16 * 32).reshape(16, 32) % 3, 0, 1).astype(np.float32)
CSR = sparse.CSRMatrix.from_dense(W)
BSR = sparse.BSRMatrix.from_csr(CSR, (4, 4))
NM = sparse.NMMatrix.from_csr(CSR, 2, 4)
BITMAP = sparse.BitmapMatrix.from_csr(CSR)
ZEROS = sparse.CSRMatrix(np.arange(2, dtype=np.float32), np.arange(2), np.array([0, 2]), (1, 2))
OF_LONG = sparse.CSRMatrix(np.ones(70000, np.float32), np.arange(70000), np.array([0, 70000]), (1, 70000))
Q = quantization.quantize(W, axis=0, symmetric=False)
HOLDERS = {
    "dense.PackedMatrix": dense.pack(W),
    "QuantizedTensor": Q,
    "PackedInt8Matrix": quantization.pack(Q),
    "PackedGroupedMatrix": quantization.pack_groups(Q),
    "CSRMatrix": CSR,
    "CSRMatrix of long arrays": OF_LONG,
    "its transpose": CSR.T,
    "some of its rows": CSR[2:9],
    "with other data": CSR.with_data(2 * CSR.data),
    "without zeros": ZEROS.without_zeros(),
    "BSRMatrix": BSR,
    "NMMatrix": NM,
    "BitmapMatrix": BITMAP,
    "CodedMatrix": sparse.quantize(CSR),
    "CSR of a BSRMatrix": BSR.to_csr(),
    "CSR of an NMMatrix": NM.to_csr(),
    "CSR of a BitmapMatrix": BITMAP.to_csr(),
    "CSR of a CodedMatrix": sparse.quantize(CSR).to_csr(),
}
WRITABLE = {"dense.PackedMatrix": ("data",), "QuantizedTensor": ("data",)}


def arrays_of(holder):
    return {name: array for name in type(holder)._arrays if (array := getattr(holder, name)) is not None}


def state_of(holder):
    return {name: (array.shape, array.dtype, array.tobytes()) for name, array in arrays_of(holder).items()}


@pytest.mark.parametrize("name", HOLDERS)
def test_what_somebody_sets_of_an_array_is_not_the_holders(name):
    holder = HOLDERS[name]
    before = state_of(holder)
    assert before
    for array in arrays_of(holder).values():
        array.dtype = np.uint8
        array.shape = (1, -1)
    assert state_of(holder) == before


@pytest.mark.parametrize("name", HOLDERS)
def test_what_somebody_sets_of_the_owner_of_an_array_is_not_the_holders(name):
    holder = HOLDERS[name]
    before = state_of(holder)
    for array in arrays_of(holder).values():
        owner = array.base
        if isinstance(owner, np.ndarray):
            shape, dtype = owner.shape, owner.dtype
            owner.dtype = np.uint8
            owner.shape = (1, -1)
            assert state_of(holder) == before
            owner.shape = (-1,)
            owner.dtype = dtype
            owner.shape = shape


def test_a_class_made_of_a_holder_keeps_what_is_its_own():
    class Mine(sparse.CSRMatrix):
        @property
        def data(self):
            return None

    assert isinstance(vars(Mine)["data"], property)
    assert not hasattr(object.__new__(sparse.CSRMatrix), "data")
    with pytest.raises(TypeError, match=r"^Other.__init_subclass__\(\) takes no keyword arguments"):
        type("Other", (sparse.CSRMatrix,), {}, tag=1)


@pytest.mark.parametrize("name", HOLDERS)
def test_no_array_that_is_trusted_can_be_made_writable(name):
    for attribute, array in arrays_of(HOLDERS[name]).items():
        if attribute in WRITABLE.get(name, ()):
            assert array.flags.writeable
            continue
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
