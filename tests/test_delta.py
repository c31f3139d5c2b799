"""Delta: fine image plus coarse change, by hand."""

import numpy as np

from fusion import methods
from landscapes import bare

DELTA = methods.get("delta")
NAN = np.nan


def run(problem, **parameters):
    method = DELTA(**parameters)
    return method.predict(problem, method.prepare(problem))


def test_one_pair_by_hand():
    # Coarse change +.1 and -.2 in two pixels of 2 x 2 fine pixels; bilinear at -1/4, 1/4, 3/4 and 5/4.
    problem = bare([[[[0.5, 0.4, 0.6, 0.7]] * 2]], [[[[0.3, 0.4]]]], [[[0.4, 0.2]]])
    np.testing.assert_allclose(run(problem, kernel="nearest")[0, 0], [0.6, 0.5, 0.4, 0.5], atol=1e-6)
    np.testing.assert_allclose(run(problem)[0, 0], [0.6, 0.425, 0.475, 0.5], atol=1e-6)


def test_pairs_weigh_by_their_days_by_hand():
    # 10 days before: .5 + .3 - .2 = .6; 30 days after: .4 + .3 - .5 = .2; weights 3 to 1: .5.
    problem = bare([[[[0.5]]], [[[0.4]]]], [[[[0.2]]], [[[0.5]]]], [[[0.3]]], days=(-10, 30))
    np.testing.assert_allclose(run(problem), [[[0.5]]], atol=1e-6)


def test_a_pixel_missing_in_one_pair_comes_from_the_other():
    # The middle pixel has only the second pair, the last one none.
    fine = [[[[0.5, NAN, NAN]]], [[[0.4, 0.4, NAN]]]]
    coarse = [[[[0.2, 0.2, 0.2]]], [[[0.5, 0.5, 0.5]]]]
    problem = bare(fine, coarse, [[[0.3, 0.3, 0.3]]], days=(-10, 30))
    np.testing.assert_allclose(run(problem), [[[0.5, 0.2, NAN]]], atol=1e-6)
