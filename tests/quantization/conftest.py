"""What tests of products share."""

import pytest
from hypothesis import strategies as st


@st.composite
def _stacks(draw):
    m, k, n = (draw(st.integers(0, 6)) for _ in range(3))
    batch = draw(st.lists(st.integers(0, 3), max_size=2))
    left = [draw(st.sampled_from([d, 1])) for d in batch][draw(st.integers(0, len(batch))):]
    right = [draw(st.sampled_from([d, 1])) for d in batch][draw(st.integers(0, len(batch))):]
    return draw(st.sampled_from([(*left, m, k), (k,)])), draw(st.sampled_from([(*right, k, n), (k,)]))


@pytest.fixture(scope="session")
def stacks():
    """Shapes of two operands of NumPy's @: a strategy."""
    return _stacks()
