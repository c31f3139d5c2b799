"""Nearest: the copy of the fine image whose day is closest."""

import numpy as np
import pytest

from fusion import methods
from landscapes import stack


@pytest.mark.parametrize(
    ("days", "chosen"), [((-40, 25), 1), ((-10, 25), 0), ((60, -20, 20), 1), ((20, -20), 1), ((90,), 0)]
)
def test_the_nearest_day_is_copied_and_of_two_the_earlier(days, chosen):
    order = sorted(range(len(days)), key=days.__getitem__)  # a stack is in time order
    problem, chosen = stack(days, gaps=1), order.index(chosen)
    method = methods.get("nearest")()
    got = method.predict(problem, method.prepare(problem))
    np.testing.assert_array_equal(got, problem.fine[chosen])
