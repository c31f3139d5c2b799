"""Harmonise: a planted line between the sensors is found and taken out; missing stays missing."""

from dataclasses import replace

import numpy as np
import pytest

from fusion import Pair, Stack, sources
from fusion.preprocess import Regression, harmonise, regression
from fusion.products import LAB_GRID
from fusion.scene import identity_geobox

BANDS = ("red", "nir")
BOX = LAB_GRID[: 20 * 16, 64 : 64 + 24 * 16]


def lab_stack(gain: float = 1.0, offset: float = 0.0, clouds: float = 0.0) -> Stack:
    lab = sources.get("lab")
    options = lab.Options(gain=gain, offset=offset, clouds=clouds)
    coarse = {item.day: item for item in lab.search("lab-coarse", options=options)}

    def read(item, box):
        return lab.read(item, box, BANDS)

    pairs = [
        Pair(read(coarse[item.day], BOX.zoom_out(16)), read(item, BOX))
        for item in lab.search("lab-fine", options=options)[5:7]
    ]
    target = next(item for day, item in coarse.items() if day > pairs[0].day)
    return Stack.of(pairs, read(target, BOX.zoom_out(16)))


def test_a_planted_gain_and_offset_are_found() -> None:
    line = regression(lab_stack(0.85, 0.03))
    np.testing.assert_allclose(line.gain, 0.85, atol=0.01)
    np.testing.assert_allclose(line.offset, 0.03, atol=0.003)
    assert min(line.r) > 0.99 and line.bands == BANDS and not line.identity


def test_taking_it_out_brings_back_what_a_perfect_sensor_sees() -> None:
    """Noise is added after the gain and so grows by a fifth: 0.0004 on average."""
    right, wrong = lab_stack(), lab_stack(0.85, 0.03)
    mended = harmonise(wrong)
    assert np.abs(wrong.target - right.target).mean() > 0.004
    assert np.abs(mended.target - right.target).mean() < 0.0015
    assert np.abs(mended.coarse - right.coarse).mean() < 0.0015
    np.testing.assert_array_equal(mended.fine, wrong.fine)
    assert mended.coarse.dtype == mended.target.dtype == np.float32


def test_sensors_that_agree_are_hardly_touched() -> None:
    stack = lab_stack()
    line = regression(stack)
    np.testing.assert_allclose(line.gain, 1, atol=0.02)
    np.testing.assert_allclose(line.offset, 0, atol=0.003)
    assert np.abs(harmonise(stack).target - stack.target).max() < 0.01


def test_missing_stays_missing_and_nothing_else_goes() -> None:
    stack = lab_stack(0.9, 0.01, clouds=0.4)
    holes = stack.target.copy()
    holes[:, 3:5, 7:9] = np.nan
    stack = replace(stack, target=holes)
    mended = harmonise(stack)
    np.testing.assert_array_equal(np.isnan(mended.target), np.isnan(stack.target))
    np.testing.assert_array_equal(np.isnan(mended.coarse), np.isnan(stack.coarse))
    np.testing.assert_allclose(regression(stack).gain, 0.9, atol=0.02)


def test_clouds_that_nobody_masked_do_not_bend_the_line() -> None:
    stack = lab_stack(0.9, 0.01)
    cloudy = stack.coarse.copy()
    cloudy[0, :, 2:5, 3:9] = 0.7
    line = regression(replace(stack, coarse=cloudy))
    np.testing.assert_allclose(line.gain, 0.9, atol=0.02)


@pytest.mark.parametrize("spoil", ["missing", "noise", "dark", "few"])
def test_without_evidence_nothing_changes(spoil: str) -> None:
    stack = lab_stack(0.9, 0.01)
    if spoil == "few":
        stack = stack[: 5 * 16, : 6 * 16]
    coarse = {
        "missing": np.full_like(stack.coarse, np.nan),
        "noise": np.random.default_rng(0).random(stack.coarse.shape, np.float32),
        "dark": stack.coarse * np.float32(1e-4),  # a unit mistake: gains beyond 0.5 to 2 are none
        "few": stack.coarse,
    }[spoil]
    stack = replace(stack, coarse=coarse)
    line = regression(stack)
    assert line.identity and line.gain == (1.0, 1.0) and line.offset == (0.0, 0.0)
    assert harmonise(stack) is stack


def test_a_line_given_is_used_by_hand() -> None:
    coarse = np.array([[[[0.3, np.nan]]]], np.float32)
    fine = np.full((1, 1, 2, 4), 0.2, np.float32)
    stack = Stack(fine, coarse, coarse[0], (-8,), identity_geobox(2, 4), ("red",))
    mended = harmonise(stack, Regression(("red",), (1.25,), (0.05,), (0.9,), (99,)))
    np.testing.assert_allclose(mended.target, [[[0.2, np.nan]]], rtol=1e-6)


def test_coarse_images_on_the_fine_grid_are_compared_through_their_blur() -> None:
    """Detail that only the fine image has must not flatten the line."""
    stack = lab_stack(0.9, 0.01)
    spread = [np.repeat(np.repeat(part, 16, -1), 16, -2) for part in (stack.coarse, stack.target)]
    line = regression(replace(stack, coarse=spread[0], target=spread[1]))
    np.testing.assert_allclose(line.gain, 0.9, atol=0.05)
