"""Work is shared whole and evenly: each thing once, no thread with much more than another."""

import ctypes
import itertools
import platform

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="compiled as it is on Linux")
STEP = 64


@pytest.fixture(scope="module")
def share(core, tmp_path_factory):
    """(threads, n, grain) -> how often each of n things was given out, and where pieces begin."""
    here = tmp_path_factory.mktemp("shares")
    options = ["-shared", "-fPIC", "-fvisibility=default", "-fopenmp"]
    library = ctypes.CDLL(core.compile(here / "shares.so", [core.path / "runtime" / "threads.c",
                                                            core.path.parent / "tests" / "csrc" / "shares.c"], options))

    def run(threads, n, grain):
        seen, cuts = np.zeros(n, np.int32), np.zeros(n, np.uint8)
        library.share(threads, ctypes.c_int64(n), ctypes.c_int64(grain), seen.ctypes.data_as(ctypes.c_void_p),
                      cuts.ctypes.data_as(ctypes.c_void_p))
        return seen, np.flatnonzero(cuts)

    return run


@pytest.mark.parametrize("threads", [1, 2, 3, 7, 16])
def test_each_thing_once_and_shares_even(threads, share):
    for n, grain in itertools.product([0, 1, 2, 3, 7, 63, 64, 65, 127, 1000, 4097], [1, 2, 3, 43, 64, 100, 128, 4096]):
        seen, cuts = share(threads, n, grain)
        assert (seen == 1).all(), (n, grain)
        pieces = -(-n // grain)
        assert len(cuts) <= max(1, 4 * threads), (n, grain)
        if threads > 1 and pieces > 1:
            unit = 1 if grain % STEP else STEP
            sizes = np.diff([*cuts, n])
            assert not (cuts % unit).any(), (n, grain, cuts)
            assert sizes.max() - sizes.min() < 2 * unit, (n, grain, cuts)
            assert len(cuts) >= min(threads, pieces), (n, grain, cuts)


def test_one_thread_where_more_do_not_pay(share):
    for n in (1, 64, 128):
        assert share(2, n, 128)[1].tolist() == [0]
    assert share(2, 129, 128)[1].tolist() == [0, 64]
