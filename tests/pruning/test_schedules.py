"""Schedules start, end, and never go back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycomp.pruning import cubic, linear, one_shot

unit = st.floats(0, 1)


@pytest.mark.parametrize("schedule", [cubic, linear])
@given(steps=st.integers(1, 50), final=unit, initial=unit)
def test_goes_from_initial_to_final_without_turning_back(schedule, steps, final, initial):
    low, high = sorted((initial, final))
    values = [schedule(step, steps, high, initial=low) for step in range(steps + 2)]
    assert values[0] == low
    assert values[-2:] == [high, high]
    assert values == sorted(values)
    assert all(0 <= v <= 1 for v in values)


def test_cubic_is_that_of_zhu_and_gupta():
    assert cubic(1, 2, 0.8) == pytest.approx(0.8 - 0.8 / 8, abs=1e-15)


def test_one_shot_is_final_at_once():
    assert [one_shot(step, 3, 0.7) for step in range(4)] == [0.7] * 4


@pytest.mark.parametrize("schedule", [cubic, linear, one_shot])
def test_bad_arguments_are_refused(schedule):
    for arguments in ((0, 0, 0.5), (-1, 3, 0.5), (0, 3, 1.5), (0, 3, float("nan"))):
        with pytest.raises(ValueError):  # noqa: PT011
            schedule(*arguments)
    for arguments in ((0.5, 3, 0.5), (0, 3, "0.5"), (True, 3, 0.5)):
        with pytest.raises(TypeError):
            schedule(*arguments)


def test_steps_of_any_size_are_past_the_end():
    assert cubic(10**400, 1, 0.5) == 0.5
