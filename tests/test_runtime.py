"""What the package says of the machine."""

import platform

import pytest

from pycomp import _runtime, set_isa
from pycomp.kernels import dispatch, native

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
