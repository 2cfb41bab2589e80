"""What the package says of the machine."""

import platform

import numpy as np
import pytest

from pycomp import _runtime, dense, set_isa
from pycomp.kernels import dispatch, native
from pycomp.kernels.contract import KERNELS
from pycomp.testing import make_case, nudged

CORE = "processor\t: {}\nBogoMIPS\t: 243.75\nCPU implementer\t: {}\nCPU architecture: 8\nCPU part\t: {}\n\n"


def of_cores(*cores):
    return "".join(CORE.format(i, *core) for i, core in enumerate(cores)).encode()


@pytest.mark.parametrize(("told", "name"), [
    (b"processor\t: 0\nmodel\t\t: 85\nmodel name\t: A CPU @ 2.0GHz: fast\n\nmodel name\t: Another\n",
     "A CPU @ 2.0GHz: fast"),
    (b"model name\t: one of \xff bytes\n", "one of \ufffd bytes"),
    (of_cores(("0x41", "0xd40"), ("0x41", "0xd40")), "CPU implementer 0x41 part 0xd40"),
    (of_cores(("0x41", "0xd03"), ("0x41", "0xd08")),
     "CPU implementer 0x41 part 0xd03, CPU implementer 0x41 part 0xd08"),
    (b"isa\t: rv64\n", platform.processor() or platform.machine()),
    (None, platform.processor() or platform.machine()),
])
def test_a_processor_has_the_name_or_the_numbers_that_linux_tells(monkeypatch, tmp_path, told, name):
    file = tmp_path / "cpuinfo"
    if told is not None:
        file.write_bytes(told)
    monkeypatch.setattr(_runtime, "CPUINFO", file)
    assert _runtime.processor() == name


@pytest.mark.skipif(native.missing() is not None, reason="the C core is not here")
def test_the_choice_of_a_kernel_is_made_once_for_each_level():
    """Asking writes a binding, which takes as long as ten products with few rows: format="auto" asks in every call."""
    first = dispatch.chosen("gemm_f32")
    assert dispatch.chosen("gemm_f32") is first
    set_isa("generic")
    assert dispatch.chosen("gemm_f32") is not first
    set_isa(None)


@pytest.mark.parametrize("backend", dispatch.BACKENDS)
@pytest.mark.parametrize("kernel", ["spmm_windows_s8", "gemm_u8s8_s8", "linear_static_f32", "gemm_f32", "spmv_nm_f32"])
@pytest.mark.parametrize("last", [False, True])
def test_operands_may_be_held(kernel, backend, last):
    """All inputs but the first, or but the last, which may be apart in memory."""
    if reason := dispatch.missing(backend):
        pytest.skip(reason)
    entry = KERNELS[kernel]
    case = make_case(entry, dict.fromkeys(entry.edges, 9)).moved(lambda a: nudged(a, 1))
    dispatch.set_backend(backend)
    try:
        expected, got = case.outputs(), case.outputs()
        dispatch.implementations(kernel)[backend](*case.inputs, *expected)
        held = {o.name: v for o, v in zip(entry.inputs, case.inputs, strict=True)}
        left = [held.pop([*held][-last])]
        call = dispatch.Holding(kernel, **held)
        for _ in range(2):
            call(*left, *got)
            assert [y.tobytes() for y in got] == [y.tobytes() for y in expected]
        assert dispatch.latest[0][:2] == (kernel, backend)
    finally:
        dispatch.set_backend(None)


@pytest.mark.skipif(native.missing() is not None, reason="the C core is not here")
def test_what_holds_operands_follows_the_level_and_the_backend():
    x, w = np.ones((1, 3), np.float32), dense.pack(np.ones((2, 3), np.float32))
    call, y = dispatch.Holding("gemm_f32", w=w.data), np.zeros((1, 2), np.float32)
    ran = []
    for choose in (lambda: set_isa("generic"), lambda: set_isa(None), lambda: dispatch.set_backend("reference"),
                   lambda: dispatch.set_backend(None)):
        choose()
        call(x, None, 0, y)
        ran.append(dispatch.latest[0][1:])
        assert (y == 3).all()
    assert ran == [("native", "generic"), ("native", native.level()), ("reference", None), ("native", native.level())]


@pytest.mark.skipif(native.missing() is not None, reason="the C core is not here")
def test_a_binding_is_compiled_once_for_all_that_hold_its_operands(monkeypatch):
    written = []
    source = native.source
    monkeypatch.setattr(native, "source", lambda *of: written.append(of) or source(*of))
    native._bind.cache_clear()
    x, y = np.ones((1, 3), np.float32), np.zeros((1, 2), np.float32)
    for value in range(5):
        dispatch.Holding("gemm_f32", w=dense.pack(np.full((2, 3), value, np.float32)).data)(x, None, 0, y)
        assert (y == 3 * value).all()
    assert sum(held == ("w",) for _, held in written) == 1


def test_what_holds_operands_is_not_left_with_a_backend_that_another_thread_saw(monkeypatch):
    """Another thread, whose call began before the choice changed, ends later."""
    call = dispatch.Holding("gemm_f32", w=dense.pack(np.ones((2, 3), np.float32)).data)
    x, y = np.ones((1, 3), np.float32), np.zeros((1, 2), np.float32)
    noting, ran = dispatch._noting, []

    def slow(kernel, held=None):
        made = noting(kernel, held)
        if not ran:
            ran.append(dispatch.chosen(kernel)[0])
            dispatch.set_backend("reference")  # meanwhile
            call(x, None, 0, y)
        return made

    monkeypatch.setattr(dispatch, "_noting", slow)
    try:
        call(x, None, 0, y)
        call(x, None, 0, y)
        assert dispatch.latest[0][1] == "reference"
    finally:
        dispatch.set_backend(None)


def test_a_choice_that_another_thread_made_before_is_not_kept(monkeypatch):
    choose = dispatch._choose

    def slow(kernel):
        made = choose(kernel)
        if dispatch._forced is None:
            dispatch.set_backend("reference")  # by another thread, meanwhile
        return made

    dispatch.set_backend(None)
    monkeypatch.setattr(dispatch, "_choose", slow)
    try:
        dispatch.chosen("gemm_f32")
        assert dispatch.chosen("gemm_f32")[0] == "reference"
    finally:
        dispatch.set_backend(None)
