"""What the README and the guide show is true."""

import doctest
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import pycomp
from pycomp.kernels import native

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


def test_the_tour_prints_what_the_readme_says():
    result = doctest.testfile(str(README), module_relative=False)
    assert result.attempted > 15
    assert result.failed == 0


def test_the_guide_prints_what_it_says():
    pytest.importorskip("scipy")
    result = doctest.testfile(str(ROOT / "docs" / "guide.md"), module_relative=False)
    assert result.attempted > 40
    assert result.failed == 0


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
@pytest.mark.skipif(native.missing() is not None, reason="no C core")
def test_the_program_in_c_prints_what_its_comment_says(tmp_path):
    (program,) = re.findall(r"```c\n(.*?)```", README.read_text("utf-8"), re.S)
    (expected,) = re.findall(r"printf.*/\* (.*) \*/", program)
    (tmp_path / "example.c").write_text(program)
    command = ["cc", "-Wall", "-Wextra", "-Werror", "example.c", f"-I{pycomp.get_include()}", pycomp.get_library()]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "a.out"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"{expected}\n")
