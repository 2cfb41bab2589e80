"""Recommendations and files."""

import dataclasses
import json
import os
import re
import zlib

import numpy as np
import pytest

from pycomp.compare import GOALS, Comparison, Report, Row, Settings, recommend
from pycomp.compare.advice import slower, unsteady
from pycomp.compare.measure import Latency, Proportion, Spread
from pycomp.compare.report import FILES


def row(name, family, stored, hits, speedup, agreement=100):
    latency = {b: Latency(Spread(1e-4 / s, 0.9e-4 / s, 1.2e-4 / s), Spread(s, 0.9 * s, 1.05 * s))
               for b, s in zip((1, 64), speedup, strict=True)}
    return Row(name, family, f"how {name}", 1000, 4000, stored, stored - 10, Proportion(hits, 1000),
               Proportion(agreement, 100), latency)


def comparison(*rows):
    data = {"name": "digits", "source": "made <by> hand", "features": 64, "train": 10, "held_out": 1000}
    return Comparison(Settings(), data, rows, ((1.0, Proportion(900, 1000)), (4.0, Proportion(950, 1000))), 1.0)


TEACHER = row("teacher", "baseline", 4000, 970, (1, 1))
PRUNED = row("pruned", "pruning", 2000, 965, (1.5, 0.5))
INT8 = row("int8", "quantization", 1000, 969, (2, 3))
STUDENT = row("student", "distillation", 100, 900, (9, 9))
ALL = comparison(TEACHER, PRUNED, INT8, STUDENT)


@pytest.mark.parametrize("goal", GOALS)
def test_a_variant_that_loses_accuracy_is_not_recommended(goal):
    assert recommend(ALL, goal).choice == "int8"


def test_the_teacher_stays_where_nothing_keeps_its_accuracy():
    advice = recommend(comparison(TEACHER, STUDENT), "size")
    assert advice.choice == "teacher"
    assert "No compressed variant keeps" in advice.reasons[0]


def test_other_goals_are_refused():
    with pytest.raises(ValueError, match="goal is 'speed', expected one of 'size', 'latency', 'accuracy'"):
        recommend(ALL, "speed")
    with pytest.raises(ValueError, match="goal is 'speed'"):
        Report(ALL, "speed", "")


def test_of_what_is_as_fast_the_most_accurate_is_recommended():
    """Where quartiles of the speed-up overlap, the shortest median is chance. Next decides the size, then the order."""
    fastest = row("fastest", "distillation", 100, 962, (2.05, 1))
    alike = [row("large", "distillation", 300, 969, (2, 1)), row("small", "distillation", 200, 969, (1.95, 1)),
             row("second", "distillation", 200, 969, (2, 1))]
    apart = row("apart", "distillation", 100, 970, (1.5, 1))
    advice = recommend(comparison(TEACHER, fastest, *alike, apart), "latency")
    assert advice.choice == "small"
    assert "Of the 4 not told apart in this run" in advice.reasons[0]
    alone = recommend(comparison(TEACHER, fastest, apart), "latency")
    assert alone.choice == "fastest"
    assert alone.reasons[0].startswith("Shortest median time at batch 1 of the 2 variants")


def test_of_equal_sizes_the_most_accurate_is_recommended():
    assert recommend(comparison(TEACHER, row("a", "pruning", 10, 965, (1, 1)), row("b", "pruning", 10, 966, (1, 1))),
                     "size").choice == "b"


def test_a_speed_that_is_not_told_apart_is_not_called_equal():
    advice = recommend(comparison(TEACHER, row("b", "pruning", 10, 970, (0.98, 2))), "latency")
    assert any("not told apart from the float baseline in this run (0.98x)" in reason for reason in advice.reasons)
    assert "slower" not in " ".join(advice.reasons)


def test_latency_advice_says_that_the_teacher_is_faster():
    advice = recommend(comparison(TEACHER, row("slow", "pruning", 10, 970, (0.5, 0.7))), "latency")
    assert "keep the teacher" in advice.reasons[0]
    assert any("slower than the float baseline" in reason for reason in advice.reasons)


def test_what_is_slower_than_dense_is_said_for_its_batch():
    (sentence,) = slower(ALL)
    assert "batch 64" in sentence
    assert "pruned (0.5x)" in sentence
    assert "student" not in sentence


def test_a_busy_machine_is_said():
    assert unsteady(ALL) == ()
    shaky = {b: Latency(Spread(1e-4, 0.5e-4, 9e-4), Spread(1, 1, 1)) for b in (1, 64)}
    first, _ = unsteady(comparison(dataclasses.replace(TEACHER, latency=shaky)))
    assert "busy" in first
    assert "50 µs to 900 µs" in first


def test_files_are_whole_and_stand_alone(tmp_path):
    files = Report(ALL, "latency", "pycomp compare --goal latency").write(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(f.name for f in files) == sorted(FILES)
    html = (tmp_path / "report.html").read_text("utf-8")
    assert re.findall(r'(?:src|href)="(?!data:)', html) == []
    assert html.index("For latency: int8") < html.index("For size: int8")
    assert "made &lt;by&gt; hand" in html
    for word in ("pycomp compare --goal latency", "Scope", "Acts on", "Purpose", "Examples", "Choose it when"):
        assert word in html
    for name in ("size", "latency", "temperature"):
        assert (tmp_path / f"accuracy-{name}.png").read_bytes().startswith(b"\x89PNG")
    whole = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert [v["name"] for v in whole["results"]["variants"]] == ["teacher", "pruned", "int8", "student"]
    assert whole["recommendations"][0]["goal"] == "latency"
    assert [(t["temperature"], t["accuracy"]["hits"]) for t in whole["results"]["temperatures"]] == [(1, 900), (4, 950)]
    assert "seconds" not in json.dumps(whole["results"])
    assert whole["machine"]["zlib"] == zlib.ZLIB_RUNTIME_VERSION


def test_settings_in_numpys_numbers_are_reported(tmp_path):
    settings = Settings(seed=np.int64(3), removed_units=np.float32(0.5), temperatures=(np.float32(2),))
    sweep = ((settings.temperatures[0], Proportion(900, 1000)),)
    Report(dataclasses.replace(ALL, settings=settings, sweep=sweep), "size", "").write(str(tmp_path))
    whole = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert whole["results"]["temperatures"][0]["temperature"] == 2.0
    assert (whole["results"]["settings"]["seed"], whole["results"]["settings"]["removed_units"]) == (3, 0.5)
