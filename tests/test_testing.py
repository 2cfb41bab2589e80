"""The tools that are given to others to test kernels with."""

import numpy as np
import pytest

from pycomp.testing import assert_within_bound, cases, edge_sizes, error_report, make_case


@pytest.mark.parametrize("take", [lambda k: make_case(k, {}), lambda k: next(edge_sizes(k)), lambda k: next(cases(k))])
def test_an_unknown_kernel_is_said(take):
    with pytest.raises(ValueError, match="kernel is 'softmax', expected one of"):
        take("softmax")


def test_a_missing_size_is_said():
    with pytest.raises(ValueError, match=r"sizes is \{'m': 2\}, expected n too"):
        make_case("softmax_f32", {"m": 2})


def test_a_bound_below_zero_is_no_bound():
    with pytest.raises(ValueError, match=r"bound holds -1\.0, expected at least 0"):
        error_report([1.0], [5.0], -1.0)


@pytest.mark.parametrize("at", range(3))
def test_complex_numbers_are_refused(at):
    given = [np.ones(1, complex) if i == at else np.ones(1) for i in range(3)]
    with pytest.raises(TypeError, match="has dtype complex128, expected real numbers"):
        error_report(*given)


def test_an_error_above_its_bound_is_found_wherever_it_is():
    got = np.zeros((3, 4))
    got[1, 2] = 2.0
    with pytest.raises(AssertionError, match=r"\[1, 2\] is .*2\.0.*, reference .*: error 2 times the bound 1"):
        assert_within_bound(got, np.zeros((3, 4)), 1.0)
