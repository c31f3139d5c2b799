"""Vector functions in the compiler's language, against the same in numpy."""

import numpy as np
import pytest

from fusion.methods._vectors import LANES, PLAIN, WEIGHTED, WIDE, add_rows, count_bits, similar_bits
from fusion.methods._windows import _compiled


@_compiled
def bits_of(levels, first, stride, least, at, most, planes, out):
    out[0] = similar_bits(levels, first, stride, least, at, most, planes)
    out[1] = count_bits(out[0])


@_compiled
def added(bits, table, first, size, near, at, total, to, plain, weighted):
    add_rows(bits, table, first, size, near, at, total, to, plain, weighted)


@pytest.mark.parametrize("planes", [0, 1, 4, 7, 8])
@pytest.mark.parametrize("limit", [0, 300, 20_000, 32_767])
def test_similar_pixels_are_those_within_the_limit_in_all_planes(planes, limit):
    random = np.random.default_rng(planes)
    levels = random.integers(0, 32_768, (planes, 200)).astype(np.uint16)
    levels[:, 30:60] = levels[:, 100:101]  # like the centre
    centre, first, out = levels[:, 100], 5, np.zeros(2, np.uint64)
    least = np.concatenate([np.zeros(3, np.uint16), centre - np.uint16(limit)])
    most = np.full(planes, 2 * limit, np.uint16)
    bits_of(levels.ravel(), first, 200, least, 3, most, planes, out)
    want = (np.abs(levels[:, first : first + WIDE].astype(int) - centre[:, None].astype(int)) <= limit).all(axis=0)
    assert [int(out[0]) >> i & 1 for i in range(WIDE)] == want.astype(int).tolist()
    assert out[1] == want.sum() >= 30


@pytest.mark.parametrize("plain", range(PLAIN + 1))
@pytest.mark.parametrize("weighted", range(WEIGHTED + 1))
@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_vectors_of_set_bits_are_added(plain, weighted, share):
    random, size = np.random.default_rng(1), LANES * (plain + weighted)
    table, near, total = (random.random(n, np.float32) for n in (3 + size * WIDE, 80, size + 4))
    chosen = random.random(WIDE) < share
    rows = table[3:].reshape(WIDE, size).astype(float)
    rows[:, LANES * plain :] *= near[7 : 7 + WIDE, None]
    want = total.astype(float)
    want[2 : 2 + size] += rows[chosen].sum(axis=0)
    bits = np.uint64(sum(1 << i for i in range(WIDE) if chosen[i]))
    added(bits, table, 3, size, near, 7, total, 2, plain, weighted)
    np.testing.assert_allclose(total, want, rtol=1e-5)
