"""A kernel that gets no memory says so, or does without and gives the same bits."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pycomp.kernels import native

HERE = Path(__file__).parent


@pytest.mark.skipif(bool(native.missing()), reason=str(native.missing()))
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its malloc is called by name")
def test_kernels_without_memory_raise_or_give_the_same_bits(core, tmp_path):
    library = core.compile(tmp_path / "refuse.so", [HERE / "refuse.c"], ["-shared", "-fPIC", "-fvisibility=default"])
    done = subprocess.run([sys.executable, HERE / "refused.py"], env={**os.environ, "LD_PRELOAD": str(library)},
                          text=True, capture_output=True, timeout=300)
    *lines, last = done.stdout.splitlines() or [""]
    assert last == "done", done.stdout[-400:] + done.stderr[-2000:]
    outcomes = {tuple(line.split(maxsplit=2)) for line in lines}
    came = {outcome: {kernel for _, kernel, o in outcomes if o == outcome} for _, _, outcome in outcomes}
    assert set(came) == {"raised", "did without"}, outcomes
    assert {"gemm_f32", "gemm_s8s8", "matmul_s8s8", "linear_dynamic_f32", "dist_loss_f32",
            "spmm_tiles_f32", "spmm_csr_f32", "spmm_bsr_f32", "spmv_sell_f32"} <= came["raised"]
    assert {"kd_loss_f32", "kd_loss_grad_f32", "divergence_f64", "top_k_kl_f32"} <= came["did without"]
