"""The command line, as a user runs it."""

import dataclasses
import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pycomp
from pycomp.cli import main
from pycomp.cli.compare import show
from pycomp.compare import Comparison, Report, Row, Settings
from pycomp.compare.measure import Latency, Proportion, Spread
from pycomp.compare.report import FILES

ELSEWHERE = Path(__file__).parent  # not the root, whose pycomp/ is not the whole package
COMMAND = [sys.executable, "-c", "import sys; from pycomp.cli import main; sys.exit(main())"]

LATENCY = Latency(Spread(1.19e-4, 1e-4, 2e-4), Spread(0.838, 0.8, 0.9))
WIDEST = "75 % of units removed"
COMPARISON = Comparison(
    Settings(), {"name": "digits", "source": "made by hand", "features": 64, "train": 10, "held_out": 599},
    tuple(Row(name, "baseline", "", 648202, 2592808, 2592808, 2380000, Proportion(583, 600), Proportion(600, 600),
              {1: LATENCY, 64: LATENCY}) for name in ("teacher", WIDEST)), (), 1.0)


def test_version(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"pycomp {pycomp.__version__}\n"


def test_info_lists_every_kernel(capsys):
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert all(kernel in text for kernel in pycomp.info()["kernels"])
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == pycomp.info()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["compres"], "invalid choice: 'compres'"),
        (["compare", "--goal", "speed"], "--goal"),
        (["compare", "--data", "mnist"], "--data"),
        (["compare", "--seed", "-1"], "invalid seed"),
        (["compare", "--seed", "one"], "invalid seed"),
        (["compare", "--fast"], "--fast"),
    ],
)
def test_wrong_arguments_exit_2_and_name_it(capsys, arguments, message):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert message in capsys.readouterr().err


def fails_with_one_line(capsys, arguments, *words):
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert all(word in captured.err for word in words)


def test_output_that_cannot_be_written_is_refused_before_training(capsys, tmp_path):
    (tmp_path / "file").touch()
    fails_with_one_line(capsys, ["compare", "--output", str(tmp_path / "file" / "report")], "cannot write into")
    fails_with_one_line(capsys, ["compare", "--output", str(tmp_path / "file")], "cannot write into")


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_the_place_of_a_file_is_refused_before_training(capsys, tmp_path, monkeypatch, name):
    (tmp_path / name).mkdir()
    monkeypatch.setattr("pycomp.compare.run", lambda *arguments: pytest.fail("was trained"))
    fails_with_one_line(capsys, ["compare", "--output", str(tmp_path)], f"cannot write {tmp_path / name}: is a folder")


def test_a_report_that_cannot_be_written_is_shown(capsys, tmp_path, monkeypatch):
    def write(report, folder):
        raise OSError("no space left")

    monkeypatch.setattr("pycomp.compare.run", lambda *arguments: COMPARISON)
    monkeypatch.setattr(Report, "write", write)
    assert main(["compare", "--output", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "For size: " in captured.out
    assert captured.err == "pycomp: no space left\n"


def test_a_report_that_cannot_be_shown_is_written(capsys, tmp_path, monkeypatch):
    def show(report):
        raise OSError("no space left")

    monkeypatch.setattr("pycomp.compare.run", lambda *arguments: COMPARISON)
    monkeypatch.setattr("pycomp.cli.compare.show", show)
    fails_with_one_line(capsys, ["compare", "--output", str(tmp_path)], "no space left")
    assert (tmp_path / "report.html").is_file()


def test_missing_data_is_one_line(capsys, tmp_path):
    fails_with_one_line(capsys, ["compare", "--data", "fashion-mnist", "--data-dir", str(tmp_path)], "train-images")
    fails_with_one_line(capsys, ["compare", "--data-dir", str(tmp_path)], "fashion-mnist")


def test_missing_extras_are_one_line_that_says_how_to_get_them(capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "rich" else find(name, *more))
    fails_with_one_line(capsys, ["compare"], "needs rich", "pip install 'pycomp[compare]'")


def printed(width, monkeypatch, capsys):
    """The lines that a terminal of this width gets."""
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": str(width)}.items():
        monkeypatch.setenv(name, value)
    show(Report(COMPARISON, "size", ""))
    return re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out).splitlines()


@pytest.mark.parametrize("width", [40, 80, 100, 150])
def test_no_width_of_the_terminal_cuts_a_number(width, monkeypatch, capsys):
    lines = printed(width, monkeypatch, capsys)
    assert "…" not in "".join(lines)
    assert max(map(len, lines)) <= max(width, 80)
    (teacher,) = (line for line in lines if line.startswith("teacher "))
    assert teacher.split("  ")[-1].strip() == "119 µs (0.838x)"
    left_out = [line for line in lines if line.startswith("In the report, but too wide for here: dense, zlib, agrees")]
    assert len(left_out) == (width < 150)
    (heading,) = (line for line in lines if line.startswith("model "))
    assert ("parameters" in heading, "95 % interval" in heading) == (width == 150, width >= 100)


def test_sentences_are_whole_lines_where_the_output_is_no_terminal(capsys):
    behind = tuple(dataclasses.replace(COMPARISON.rows[1], name=f"int{i} static") for i in range(20))
    show(Report(dataclasses.replace(COMPARISON, rows=(COMPARISON.rows[0], *behind)), "size", ""))
    names = ", ".join(f"{row.name} (0.838x)" for row in behind)
    assert f" at batch 1 in this run (its speed is 1x): {names}.\n" in capsys.readouterr().out


C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(("environment", "folder"), [({"PYTHONIOENCODING": "ascii"}, b"gr??e"),
                                                     (C_LOCALE, "größe".encode())])
def test_an_encoding_without_mu_and_without_the_folders_letters(tmp_path, environment, folder):
    script = ("import sys, pycomp.compare; from pycomp.cli import main; from test_main import COMPARISON\n"
              "pycomp.compare.run = lambda *given: COMPARISON; sys.exit(main(['compare', '--output', sys.argv[1]]))")
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "größe"], capture_output=True,
                          timeout=60, cwd=ELSEWHERE, env={**os.environ, **environment})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"119 us (0.838x)" in done.stdout
    assert folder in done.stdout


@pytest.mark.parametrize("errors", ["strict", "surrogateescape", "replace"])
def test_a_caller_of_main_finds_its_output_as_it_was(monkeypatch, errors):
    output = io.TextIOWrapper(io.BytesIO(), "ascii", errors)
    monkeypatch.setattr(sys, "stdout", output)
    assert main(["info"]) == 0
    assert output.errors == errors


def test_python_runs_the_package():
    done = subprocess.run([sys.executable, "-m", "pycomp", "--version"], capture_output=True, text=True, timeout=60,
                          cwd=ELSEWHERE)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"pycomp {pycomp.__version__}\n", "")


def test_closed_pipe_is_silent():
    process = subprocess.Popen([*COMMAND, "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               cwd=ELSEWHERE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 1


@pytest.mark.skipif(os.name != "posix", reason="closes it by a shell")
def test_closed_output_is_one_line():
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "info"], stderr=subprocess.PIPE, text=True,
                          timeout=60, cwd=ELSEWHERE)
    assert (done.returncode, done.stderr) == (1, "pycomp: standard output is closed\n")


def test_quick_comparison_end_to_end(tmp_path):
    folder = tmp_path / "report"
    done = subprocess.run([*COMMAND, "compare", "--quick", "--goal", "latency", "--output", str(folder)],
                          capture_output=True, text=True, timeout=200, cwd=ELSEWHERE)
    assert (done.returncode, done.stderr) == (0, "")
    assert "For latency:" in done.stdout
    assert sorted(os.listdir(folder)) == ["accuracy-latency.png", "accuracy-size.png", "accuracy-temperature.png",
                                           "report.html", "report.json"]
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert report["command"] == "pycomp compare --data digits --goal latency --seed 0 --quick"
    variants = {v["name"]: v for v in report["results"]["variants"]}
    teacher = variants["teacher"]
    assert teacher["accuracy"]["value"] > 0.9
    assert variants["int8 static"]["bytes"]["stored"] < teacher["bytes"]["stored"] / 3
    assert variants["int8 static"]["agreement"]["value"] > 0.95
    assert {v["family"] for v in variants.values()} == {"baseline", "pruning", "quantization", "distillation",
                                                       "combination"}


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_interrupt_exits_130_with_one_line_and_no_file(tmp_path):
    folder = tmp_path / "report"
    # What a shell starts in the background ignores SIGINT, and so would the command under test.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    process = subprocess.Popen([sys.executable, "-c", heed + COMMAND[2], "compare", "--output", str(folder)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ELSEWHERE)
    deadline = time.monotonic() + 60
    while not folder.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"pycomp: interrupted\n")
    assert os.listdir(folder) == []
