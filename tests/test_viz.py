"""Figures show the numbers they are given, name their units and need no internet."""

import base64
import io
import json
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image

from fusion import explain, methods, viz
from fusion.errors import FusionError
from fusion.methods import Explanation, Term
from fusion.metrics import METRICS, evaluate
from fusion.scene import Scene
from fusion.sources import Item
from landscapes import stack

BANDS = ("blue", "green", "red", "nir")
GRID = GeoBox((30, 50), Affine(10, 0, 5_280_000, 0, -10, 2_630_000), "EPSG:3035")
DAY = date(2018, 7, 11)
STRETCH = ((0.0, 1.0), (0.0, 0.5), (0.2, 0.4))


def scene(seed: int = 0, *, grid: GeoBox = GRID, noise: float = 0.2) -> Scene:
    """Return an asymmetrical scene: it grows to the right, less so downwards, and every band is brighter."""
    y, x = np.mgrid[: grid.shape[0], : grid.shape[1]]
    data = np.stack([0.1 * (b + 1) + 0.002 * x + 0.001 * y for b in range(4)])
    data += noise * np.random.default_rng(seed).random(data.shape)
    return Scene(data.astype(np.float32), grid, BANDS, DAY)


def flat(*values: float, hole: bool = False) -> Scene:
    """Return 2 x 3 pixels of one red, green and blue; a hole is a first pixel without green."""
    data = np.broadcast_to(np.float32(values)[:, None, None], (len(values), 2, 3)).copy()
    if hole:
        data[1, 0, 0] = np.nan
    names = ("red", "green", "blue")[: len(values)]
    return Scene(data, GeoBox((2, 3), Affine(10, 0, 0, 0, -10, 0), "EPSG:3035"), names, DAY)


def items(product: str, count: int = 5) -> list[Item]:
    """Return one image every 20 days, the cloudier the later, the last of unknown cloud."""
    clouds = [*(0.2 * i for i in range(count - 1)), None]
    start = date(2018, 6, 1)
    return [
        Item("sample", product, f"{product}-{i}", start + timedelta(days=20 * i), cloud=cloud)
        for i, cloud in enumerate(clouds)
    ]


def tables() -> dict[str, dict[str, dict[str, float]]]:
    """Return the results of two methods."""
    truth = scene()
    near = replace(truth, data=truth.data + np.float32(0.01))
    return {"nearest": evaluate(scene(1), truth), "starfm": evaluate(near, truth)}


PIXEL = (6, 25)  # near the right edge


@cache
def taken_apart(name: str = "starfm", at: tuple[int, int] = PIXEL) -> Explanation:
    """Return the explanation of one pixel of a small landscape with two pairs and clouds."""
    return explain(stack(gaps=1), methods.get(name)(window=9), "green", *at)


def by_hand(base: float = 0.0) -> Explanation:
    """Return an explanation of the pixel (4, 7): 2 pairs, 1 row of 3 columns, 5..7; two neighbours count in each."""
    return Explanation(
        rows=slice(4, 5),
        columns=slice(5, 8),
        days=(-10, 20),
        weight=np.array([[[0.125, 0, 0.5]], [[0.25, 0.125, 0]]]),
        value=np.array([[[0.4, math.nan, 0.2]], [[-0.1, 0.8, 0.3]]]),
        verdict=np.array([[[0, 1, 0]], [[0, 0, 2]]], np.uint8),
        verdicts=("counts", "missing", "not similar", "too dark"),
        base=base,
        equation="F2 = F1 + sum_i W_i dF(i)",
        terms=(
            Term("F_k(p)", "of the first", 0.25, pair=0),
            Term("F_k(p)", "of the second", 0.35, pair=1),
            Term("n_2", "of both", 4.0, "pixels"),
            Term("V", "none", math.nan, "1"),
        ),
    )


FIGURES: dict[str, Callable[[], Any]] = {
    "timeline": lambda: viz.timeline(
        items("fine"), items("coarse"), target=date(2018, 7, 11), pairs=[date(2018, 6, 21), date(2018, 7, 31)]
    ),
    "timeline of nothing": lambda: viz.timeline([], []),
    "error map": lambda: viz.error_map(scene(1), scene(), "nir", name="starfm"),
    "scatter": lambda: viz.scatter(scene(1), scene(), "nir", name="starfm"),
    **{f"bars {name}": (lambda name=name: viz.bars(tables(), name)) for name in METRICS if name != "ERGAS"},
    "apa": lambda: viz.apa(tables(), references={"truth": evaluate(scene(), scene())}),
    "spectrum": lambda: viz.spectrum({"truth": [0.1, 0.2, math.nan, 0.3]}, BANDS, at=(-25.1, 45.2)),
    "image": lambda: viz.image(scene(), ("nir",)),
    "window": lambda: viz.window(taken_apart(), stack(gaps=1).fine[1, 1, 2:11, 21:28], PIXEL, pair=1),
    "weights": lambda: viz.weights(taken_apart(), PIXEL),
    "weights where nothing counts": lambda: viz.weights(replace(by_hand(), verdict=by_hand().verdict * 0 + 1), (4, 7)),
    "sum by distance": lambda: viz.build_up(taken_apart(), PIXEL, ["2020-05-22", "2020-07-26"]),
    "sum by neighbour": lambda: viz.build_up(taken_apart(), PIXEL, ["2020-05-22", "2020-07-26"], by="neighbour"),
    "compare": lambda: viz.compare({"truth": scene(), "starfm": scene(1)}, ("nir", "red", "green")),
}


def body(figure: Any) -> dict[str, Any]:
    """Return the figure as a browser receives it."""
    parsed: dict[str, Any] = json.loads(figure.to_json())
    return parsed


@pytest.fixture(params=FIGURES)
def figure(request: pytest.FixtureRequest) -> Any:
    """Every kind of figure there is."""
    return FIGURES[request.param]()


def test_every_figure_has_title_and_named_axes(figure: Any) -> None:
    layout = body(figure)["layout"]
    assert len(layout["title"]["text"]) > 10
    axes = {name: axis for name, axis in layout.items() if re.fullmatch(r"[xy]axis\d*", name)}
    assert {"xaxis", "yaxis"} <= set(axes)
    for name, axis in axes.items():
        shared_y = name.startswith("yaxis") and name != "yaxis" and "matches" in axis
        assert shared_y or axis["title"]["text"]


def test_every_amount_has_its_unit(figure: Any) -> None:
    """Numbers on an axis or in a colour bar come with a unit in brackets; days and rows have none."""
    drawn = body(figure)
    titles = [axis["title"]["text"] for name, axis in drawn["layout"].items() if name in ("xaxis", "yaxis")]
    assert all(re.search(r"\(.+\)", title) or title in ("Day of acquisition", "Images") for title in titles)
    bars = [t.get("colorbar") or t.get("marker", {}).get("colorbar") for t in drawn["data"]]
    assert all(re.search(r"\(.+\)", bar["title"]["text"]) for bar in bars if bar)
    for trace in drawn["data"]:
        coloured = trace["type"] == "heatmap" or isinstance(trace.get("marker", {}).get("colorscale"), list)
        assert not coloured or trace.get("colorbar") or trace["marker"].get("colorbar")


def test_no_figure_asks_the_internet(figure: Any) -> None:
    assert "http" not in figure.to_json()


def test_every_figure_is_transparent_with_ink_for_light_and_dark(figure: Any) -> None:
    base = body(figure)["layout"]["template"]["layout"]
    assert base["paper_bgcolor"] == base["plot_bgcolor"] == "rgba(0,0,0,0)"
    for page in ("#ffffff", "#0e1117"):  # Streamlit's two pages
        assert contrast(base["font"]["color"], page) > 4


def contrast(ink: str, page: str) -> float:
    """Contrast of two colours after WCAG 2.1."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(ink), luminance(page)))
    return (light + 0.05) / (dark + 0.05)


def test_combinations_are_those_the_bands_allow() -> None:
    shown = viz.combinations(BANDS)
    assert shown["True colour"] == ("red", "green", "blue")
    assert shown["nir alone"] == ("nir",)
    assert "Shortwave infrared" not in shown
    assert "Shortwave infrared" in viz.combinations((*BANDS, "swir2"))


def test_limits_are_percentiles_of_all_layers_together() -> None:
    low, high = flat(0.1, 0.1, 0.1), flat(0.5, 0.5, 0.5)
    assert viz.limits([low, high], ("red",), percent=(0, 100)) == (pytest.approx((0.1, 0.5)),)
    values = np.arange(101, dtype=np.float32).reshape(1, 1, 101) / 100
    ramp = Scene(values, GeoBox((1, 101), Affine.identity(), None), ("red",), DAY)
    assert viz.limits([ramp], ("red",)) == (pytest.approx((0.02, 0.98)),)


def test_limits_bear_missing_and_constant_images() -> None:
    hole, gone = flat(0.3, 0.3, 0.3, hole=True), flat(math.nan, math.nan, math.nan)
    assert viz.limits([hole, gone], ("green",), percent=(0, 100))[0] == pytest.approx((0.29, 0.31))
    assert viz.limits([gone], ("red", "blue")) == ((0.0, 1.0), (0.0, 1.0))
    assert viz.limits([], ("red",)) == ((0.0, 1.0),)
    with pytest.raises(ValueError, match="percentiles"):
        viz.limits([hole], ("red",), percent=(98, 2))


def test_colours_of_known_pixels() -> None:
    picture = viz.rgba(flat(0.6, 0.25, 0.9, hole=True), ("red", "green", "blue"), STRETCH)
    assert (picture.shape, picture.dtype) == ((2, 3, 4), np.uint8)
    assert picture[1, 2].tolist() == [153, 128, 255, 255]  # 0.6 of 255, half, and above the limit
    assert picture[0, 0, 3] == 0
    assert (picture[..., 3] == 255).sum() == 5


@pytest.mark.parametrize(
    ("palette", "first", "last"),
    [
        ("viridis", (68, 1, 84), (253, 231, 37)),
        ("cividis", (0, 34, 78), (254, 232, 56)),
        ("grey", (0, 0, 0), (255,) * 3),
    ],
)
def test_a_single_band_has_the_ends_of_its_palette(palette: str, first: Any, last: Any) -> None:
    dark = viz.rgba(flat(0.0, 0.5, 1.0), ("red",), STRETCH[:1], palette=palette)
    light = viz.rgba(flat(0.0, 0.5, 1.0), ("blue",), STRETCH[:1], palette=palette)
    assert tuple(dark[0, 0, :3]) == first
    assert tuple(light[0, 0, :3]) == last


def test_wrong_numbers_of_bands_and_unknown_palettes_are_named() -> None:
    with pytest.raises(ValueError, match="1 or 3 bands"):
        viz.rgba(flat(0.1, 0.2, 0.3), ("red", "green"), STRETCH[:2])
    with pytest.raises(ValueError, match="'jet'"):
        viz.rgba(flat(0.1, 0.2, 0.3), ("red",), STRETCH[:1], palette="jet")
    with pytest.raises(FusionError, match="swir1"):
        viz.rgba(flat(0.1, 0.2, 0.3), ("swir1",), STRETCH[:1])


def test_png_holds_the_same_pixels() -> None:
    picture = viz.rgba(scene(), ("nir", "red", "green"), viz.limits([scene()], ("nir", "red", "green")))
    back = np.asarray(Image.open(io.BytesIO(viz.png(picture, zoom=2))))
    assert back.shape == (60, 100, 4)
    assert (back[1::2, ::2] == picture).all()


def test_difference_is_blue_below_white_at_and_red_above() -> None:
    truth = flat(0.3, 0.3, 0.3, hole=True)
    pred = flat(0.2, 0.3, 0.4)
    colours = {band: viz.difference_rgba(pred, truth, band, bound=0.1)[0][1, 1] for band in truth.bands}
    red, _, blue, _ = colours["red"].astype(int)
    assert blue > red + 40
    assert min(colours["green"]) >= 246
    red, _, blue, _ = colours["blue"].astype(int)
    assert red > blue + 40
    mean, bound = viz.difference_rgba(pred, truth, "mean", bound=0.1)
    assert bound == 0.1
    assert mean[0, 0, 3] == 0
    assert min(mean[1, 1]) >= 246  # the two errors cancel


def test_the_bound_is_a_round_number_that_covers_the_errors() -> None:
    for size, wanted in ((0.013, 0.02), (0.05, 0.05), (0.31, 0.5), (0.9, 1.0)):
        assert viz.bound_of(np.array([[size, -size, math.nan]])) == wanted
    assert viz.bound_of(np.zeros((2, 2))) > 0
    assert viz.bound_of(np.full((2, 2), np.nan)) > 0


def test_a_difference_wants_one_grid() -> None:
    with pytest.raises(FusionError, match="one grid"):
        viz.difference(scene()[0:10, 0:10], scene())


@pytest.mark.parametrize("bands", [("nir",), ("nir", "red", "green")])
def test_the_legend_says_title_unit_and_numbers_in_the_ink_of_the_page(bands: tuple[str, ...]) -> None:
    pairs = tuple((-0.05 * (i + 1), 0.05 * (i + 1)) for i in range(len(bands)))
    text = viz.legend(bands, pairs, title="a <b> & c")
    root = ElementTree.fromstring(text)
    words = [element.text for element in root.iter() if element.text]
    assert words[0] == "a <b> & c: reflectance"
    assert set(bands) <= set(words)
    assert {"−0.050", "0.000", "0.050"} <= set(words)
    assert "reflectance" in str(root.get("aria-label"))
    assert not re.search(r"<svg|[^-]color:| id=", text)  # st.html drops SVG; the page's own ink


@pytest.mark.parametrize(("palette", "ends"), [("viridis", "68,1,84 253,231,37"), ("grey", "0,0,0 255,255,255")])
def test_the_legend_goes_from_end_to_end_of_its_palette(palette: str, ends: str) -> None:
    stops = re.findall(r"rgb\((.*?)\)", viz.legend(("nir",), ((0, 1),), palette=palette))
    assert [stops[0], stops[-1]] == ends.split()
    assert len(stops) == 16


def test_methods_keep_their_colours_and_look_different() -> None:
    names = ["delta", "nearest", "starfm"]
    alone = viz.bars({"starfm": tables()["starfm"]}, "RMSE", names=names)
    both = viz.bars(tables(), "RMSE", names=names)
    colour = {trace.name: trace.marker.color for trace in both.data if trace.type == "bar"}
    assert alone.data[0].marker.color == colour["starfm"] != colour["nearest"]
    many = [*methods.names(), "truth", "coarse"]
    assert len({viz.colour_of(name, many) for name in many}) == len({viz.symbol_of(name, many) for name in many}) == 13


def test_the_timeline_has_every_image_once_and_marks_the_choice() -> None:
    drawn = FIGURES["timeline"]()
    points = [p for trace in drawn.data for p in (trace.customdata if trace.customdata is not None else [])]
    assert sorted(p[1] for p in points) == sorted(i.id for i in [*items("fine"), *items("coarse")])
    by_kind = {trace.name: trace for trace in drawn.data if trace.customdata is not None}
    assert [p[2] for p in by_kind["pair"].customdata] == ["2018-06-21", "2018-07-31"] * 2
    assert [tuple(p) for p in by_kind["target"].customdata] == [("coarse", "coarse-2", "2018-07-11")]
    assert [p[1] for p in by_kind["hidden fine image"].customdata] == ["fine-2"]
    assert set(by_kind["target"].text) == {"target"}
    shapes = {kind: str(trace.marker.symbol[0]) for kind, trace in by_kind.items()}
    assert len(set(shapes.values())) == 4
    legend = {trace.name for trace in drawn.data if trace.customdata is None and trace.name}
    assert legend == set(by_kind)


def test_clear_days_stand_out_and_unknown_cloud_is_hollow() -> None:
    drawn = viz.timeline(items("fine"), [])
    marker = drawn.data[0].marker
    assert marker.color[0] == "rgb(0,114,178)"
    assert [symbol.endswith("-open") for symbol in marker.symbol] == [False] * 4 + [True]
    assert "not known" in drawn.data[0].hovertext[4]


def test_the_error_map_is_the_difference_on_the_grid_of_the_scene() -> None:
    pred, truth = scene(1), scene()
    heat = viz.error_map(pred, truth, "red", bound=0.2).data[0]
    np.testing.assert_array_equal(heat.z, pred.data[2] - truth.data[2])
    assert (heat.zmin, heat.zmax) == (-0.2, 0.2)
    assert (heat.x0, heat.dx, heat.y0, heat.dy) == (5_280_005, 10, 2_629_995, -10)


def test_a_large_error_map_shows_means_of_blocks_and_says_so() -> None:
    grid = GeoBox((3, 2001), Affine(10, 0, 0, 0, -10, 0), "EPSG:3035")
    truth, pred = scene(grid=grid), scene(1, grid=grid)
    pred.data[:, 0, 0] = np.nan
    drawn = viz.error_map(pred, truth, "blue")
    heat, error = drawn.data[0], pred.data[0] - truth.data[0]
    assert heat.z.shape == (1, 667)
    assert heat.z[0, 1] == pytest.approx(error[:, 3:6].mean(), abs=1e-6)
    assert heat.z[0, 0] == pytest.approx(np.nansum(error[:, :3]) / 8, abs=1e-6)
    assert (heat.x0, heat.dx) == (15, 30)
    assert "3 x 3 pixels" in drawn.layout.title.subtitle.text


def test_the_scatter_counts_every_valid_pixel_once() -> None:
    pred, truth = scene(1), scene()
    pred.data[3, :2, :5] = np.nan
    truth.data[3, 5, 7] = 5.0  # far outside the view, still counted
    drawn = viz.scatter(pred, truth, "nir")
    heat = drawn.data[0]
    assert heat.customdata.sum() == 30 * 50 - 10
    np.testing.assert_allclose(10.0 ** heat.z[heat.customdata > 0], heat.customdata[heat.customdata > 0], rtol=1e-5)
    assert np.isnan(heat.z[heat.customdata == 0]).all()
    assert "n = 1,490" in drawn.layout.title.subtitle.text
    assert drawn.layout.xaxis.range == drawn.layout.yaxis.range
    assert drawn.layout.xaxis.range[1] < 1.0


def test_the_scatter_puts_the_truth_across_and_the_prediction_up() -> None:
    dark, bright = flat(0.1, 0.1, 0.1), flat(0.1, 0.1, 0.1)
    bright = replace(bright, data=bright.data + np.float32(0.3))
    heat = viz.scatter(bright, dark, "red").data[0]
    row, column = np.argwhere(heat.customdata == 6)[0]
    assert heat.x0 + (column - 0.5) * heat.dx <= 0.1 + 1e-6
    assert heat.y0 + (row + 0.5) * heat.dy >= 0.4 - 1e-6


def test_the_scatter_states_a_known_error() -> None:
    truth = scene()
    drawn = viz.scatter(replace(truth, data=truth.data + np.float32(0.05)), truth, "red", name="delta")
    line = next(trace for trace in drawn.data if trace.name == "1:1 line (perfect)")
    assert line.x == line.y
    assert "CC = 1.0000, RMSE = 0.0500 reflectance" in drawn.layout.title.subtitle.text


def test_a_scatter_of_nothing_says_so() -> None:
    gone = replace(scene(), data=np.full_like(scene().data, np.nan))
    with pytest.raises(FusionError, match="No pixel of nir"):
        viz.scatter(gone, scene(), "nir")


def test_bars_have_the_values_of_the_table_and_mark_the_ideal() -> None:
    table = tables()
    drawn = viz.bars(table, "CC")
    assert {t.name: dict(zip(t.x, t.y, strict=True)) for t in drawn.data if t.type == "bar"} == {
        name: rows["CC"] for name, rows in table.items()
    }
    assert drawn.layout.shapes[0].y0 == drawn.layout.shapes[0].y1 == 1
    assert "ideal 1" in [trace.name for trace in drawn.data]


def test_bars_say_which_values_are_infinite_and_name_all_bands_together() -> None:
    perfect = {"copy": evaluate(scene(), scene())}
    assert "infinite: copy (blue)" in viz.bars(perfect, "PSNR").layout.title.subtitle.text
    assert list(viz.bars(perfect, "SAM").data[0].x) == ["all bands"]


def test_the_apa_diagram_places_colours_and_sizes_its_points() -> None:
    def result(edge: float, texture: float, error: float, bias: float) -> dict[str, dict[str, float]]:
        values = {"EDGE": edge, "LBP": texture, "RMSE": error, "AD": bias}
        return {name: {"mean": value} for name, value in values.items()}

    drawn = viz.apa(
        {
            "a": result(-0.2, 0.1, 0.03, -0.04),
            "b": result(0.05, -0.1, 0.01, 0.01),
            "c": result(math.nan, 0, 0, 0),
        }
    )
    points = next(trace for trace in drawn.data if trace.text is not None)
    assert list(zip(points.text, points.x, points.y, strict=True)) == [("a", -0.2, 0.1), ("b", 0.05, -0.1)]
    assert list(points.marker.color) == [0.03, 0.01]
    assert (points.marker.size[0] - 10) ** 2 == pytest.approx(4 * (points.marker.size[1] - 10) ** 2)
    assert "at most 0.0400" in drawn.layout.title.subtitle.text
    assert len(drawn.layout.shapes) == 5
    assert all(s.x0 == s.y0 == -s.x1 == -s.y1 for s in drawn.layout.shapes)
    notes = {a.text: (a.x, a.y) for a in drawn.layout.annotations}
    smooth = next(place for text, place in notes.items() if "over-smoothed" in text)
    assert smooth[0] < 0 and smooth[1] < 0


def test_the_spectrum_shows_reflectance_over_named_bands() -> None:
    drawn = viz.spectrum({"truth": [0.1, 0.2, math.nan, 0.3], "starfm": [0.1] * 4}, BANDS, at=(-25.1, -45.2))
    assert list(drawn.data[0].y) == [0.1, 0.2, None, 0.3]
    assert drawn.data[0].x[3] == "nir<br>850 nm"
    assert "25.10000° W, 45.20000° S" in drawn.layout.title.text
    assert drawn.data[0].marker.symbol != drawn.data[1].marker.symbol


def test_side_by_side_all_pictures_have_one_stretch_and_one_zoom() -> None:
    dark, bright = scene(), replace(scene(), data=scene().data + np.float32(0.2))
    drawn = viz.compare({"dark": dark, "bright": bright}, ("nir",))
    shared = viz.limits([dark, bright], ("nir",))
    for trace, shown in zip(drawn.data, (dark, bright), strict=False):
        encoded = trace.source.removeprefix("data:image/png;base64,")
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
        np.testing.assert_array_equal(picture[::-1], viz.rgba(shown, ("nir",), shared))
        assert (trace.x0, trace.dx, trace.y0, trace.dy) == (5_280_005, 10, 2_629_705, 10)
    axes = drawn.layout
    assert (axes.xaxis.matches or axes.xaxis2.matches) and (axes.yaxis.matches or axes.yaxis2.matches)
    with pytest.raises(FusionError, match="1 to 4"):
        viz.compare({}, ("nir",))


def test_a_scene_without_georeference_is_shown_in_pixels() -> None:
    plain = Scene(scene().data, GeoBox((30, 50), Affine.identity(), None), BANDS, DAY)
    assert viz.image(plain, ("nir",)).layout.xaxis.title.text == "Column (pixels)"


def test_maps_place_pictures_where_the_scene_is() -> None:
    drawn = viz.to_map({"fine": scene(), "coarse": scene(grid=GRID.zoom_out(10))}, ("nir", "red", "green"))
    layers = [child for child in drawn._children.values() if child._name == "ImageOverlay"]
    west, south, east, north = GRID.extent.to_crs("EPSG:4326").boundingbox
    for layer, metres in zip(layers, (10, 100), strict=True):
        pixel = metres / 111_000  # degrees
        assert layer.bounds[0] == pytest.approx([south, west], abs=2 * pixel)
        assert layer.bounds[1] == pytest.approx([north, east], abs=2 * pixel)
    assert [layer.layer_name for layer in layers] == ["fine", "coarse"]
    page = drawn.get_root().render()
    assert "openstreetmap" not in page.lower()
    assert page.count("linear-gradient") == 3  # the legend


def test_a_swipe_map_has_two_panes_and_escapes_names() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of packages that leafmap imports
        drawn = viz.swipe(("a</script>", scene()), ("b", scene(1)), ("nir",))
    page = drawn.get_root().render()
    assert "a</script>" not in page
    panes = [child.options["pane"] for child in drawn._children.values() if child._name == "ImageOverlay"]
    assert panes == ["left", "right"]
    assert "a\\u003c/script\\u003e | b" in page
    assert "openstreetmap" not in page.lower()


def test_the_window_has_the_pixel_at_its_origin_and_a_line_around_those_that_count() -> None:
    fine = np.array([[0.3, math.nan, 0.2]])
    heat, line, here = viz.window(by_hand(), fine, (4, 7)).data
    np.testing.assert_array_equal(heat.z, fine)
    assert (heat.x0, heat.dx, heat.y0, heat.dy) == (-2, 1, 0, 1)
    points = list(zip(line.x, line.y, strict=True))
    edges = {tuple(sorted(edge)) for edge in zip(points[::3], points[1::3], strict=True)}
    square = {((-2.5, -0.5), (-1.5, -0.5)), ((-2.5, 0.5), (-1.5, 0.5)),
              ((-2.5, -0.5), (-2.5, 0.5)), ((-1.5, -0.5), (-1.5, 0.5))}  # fmt: skip
    assert edges == square | {tuple((x + 2, y) for x, y in edge) for edge in square}
    assert (min(here.x), max(here.x), min(here.y), max(here.y)) == (-0.5, 0.5, -0.5, 0.5)
    assert here.name == "the pixel" and set(line.x[2::3]) == {None}


def test_rows_of_the_window_go_down_the_screen() -> None:
    found = taken_apart()
    axis = viz.weights(found, PIXEL).layout.yaxis
    assert axis.range == (found.rows.stop - PIXEL[0] - 0.5, found.rows.start - PIXEL[0] - 0.5)
    assert (found.rows, found.columns) == (slice(2, 11), slice(21, 28))


def test_weights_are_coloured_and_reasons_tinted_and_each_pixel_is_one_of_them() -> None:
    drawn = viz.weights(by_hand(), (4, 7), pair=1)
    reasons, heat = (trace for trace in drawn.data if trace.type == "heatmap")
    np.testing.assert_allclose(10.0**heat.z, [[25, 12.5, math.nan]])
    np.testing.assert_array_equal(reasons.z, [[math.nan, math.nan, 2]])
    assert [trace.name for trace in drawn.data if trace.type == "scatter"] == ["not similar", "the pixel"]
    assert drawn.data[1].marker.color == reasons.colorscale[2 * 2][1]
    assert heat.zmin == pytest.approx(math.log10(10)) and heat.zmax == pytest.approx(math.log10(25))
    assert list(heat.colorbar.ticktext) == ["10", "20"]
    assert "2 of 3 pixels; their weights add up to 37.5 %" in drawn.layout.title.subtitle.text


def test_pointing_at_a_neighbour_tells_its_verdict_and_numbers() -> None:
    found = taken_apart()
    for trace in (viz.weights(found, PIXEL).data[0], viz.window(found, found.value[0], PIXEL).data[0]):
        assert [[found.verdicts.index(word) for word in row] for row in trace.text] == found.verdict[0].tolist()
        shown = np.array(trace.customdata)
        np.testing.assert_allclose(shown[..., 0], 100 * found.weight[0], rtol=1e-6)
        np.testing.assert_allclose(shown[..., 1], found.value[0], rtol=1e-6)
        for index, plane in enumerate(found.planes, start=2):
            np.testing.assert_allclose(shown[..., index], plane.value[0], rtol=1e-6)
            assert f"{plane.symbol} %{{customdata[{index}]:.5f}}" in trace.hovertemplate


@pytest.mark.parametrize("by", ["distance", "neighbour"])
@pytest.mark.parametrize("name", ["starfm", "estarfm", "fsdaf"])
def test_the_steps_of_the_sum_end_at_the_prediction(name: str, by: Any) -> None:
    found = taken_apart(name)
    drawn = viz.build_up(found, PIXEL, ["before", "after"], by=by)
    bars = [trace for trace in drawn.data if trace.type == "bar"]
    steps = sorted(step for trace in bars for step in zip(trace.y, trace.base, trace.x, strict=True))
    at = found.base
    for number, (row, start, adds) in enumerate(steps, start=1):
        assert row == number and start == pytest.approx(at, abs=1e-12)
        at += adds
    assert at == pytest.approx(found.prediction, abs=1e-9)
    assert sum(step[0] for trace in bars for step in trace.customdata) == (found.weight > 0).sum()
    ends = next(trace for trace in drawn.data if trace.type == "scatter" and trace.mode == "markers")
    assert list(ends.x) == pytest.approx([found.base, found.prediction], abs=1e-9)
    assert len(drawn.layout.yaxis.ticktext) == len(steps) + 2
    assert f"prediction {found.prediction:.5f}" in drawn.layout.yaxis.ticktext[-1]


def test_the_sum_by_distance_keeps_pairs_and_rings_apart() -> None:
    drawn = viz.build_up(by_hand(0.5), (4, 7), ["first", "second"])
    assert list(drawn.layout.yaxis.ticktext) == [
        "start 0.50000", "<b>first</b>  the pixel itself", "1 to 2 pixels away", "<b>second</b>  0 to 1 pixels away",
        "1 to 2 pixels away", "<b>prediction 0.72500</b>",
    ]  # fmt: skip
    first, second = (trace for trace in drawn.data if trace.type == "bar")
    assert (first.name, second.name) == ("first", "second") and first.marker.color != second.marker.color
    np.testing.assert_allclose(first.x, [0.1, 0.05])
    np.testing.assert_allclose(second.x, [0.1, -0.025])
    np.testing.assert_allclose(second.base, [0.65, 0.75])
    assert list(second.customdata[1]) == [1, 25, pytest.approx(-0.1), pytest.approx(-0.025), "1 to 2 pixels away"]


def test_the_sum_by_neighbour_names_the_largest_and_takes_the_rest_together() -> None:
    labels = viz.build_up(by_hand(), (4, 7), ["first", "second"], by="neighbour").layout.yaxis.ticktext
    assert list(labels[1:-1]) == [
        "<b>first</b>  the pixel itself", "<b>second</b>  1 left", "<b>first</b>  2 left", "<b>second</b>  2 left"
    ]  # fmt: skip
    found = explain(stack(), methods.get("starfm")(window=9, classes=3), "green", *PIXEL)
    labels = viz.build_up(found, PIXEL, ["first", "second"], by="neighbour").layout.yaxis.ticktext
    assert len(labels) == 13 and labels[-2].endswith(f"the other {(found.weight > 0).sum() - 10}")


def test_the_sum_in_numbers_is_true() -> None:
    assert viz.sum_in_numbers(by_hand(0.5), ["first", "second"]) == (
        r"\begin{aligned}0.72500 &= \underbrace{0.50000}_{\text{start}} + "
        r"\underbrace{0.6250\times 0.24000}_{\text{first}}\\ &+ \underbrace{0.3750\times 0.20000}_{\text{second}}"
        r"\end{aligned}"
    )
    for name in ("starfm", "estarfm", "fsdaf"):
        found = taken_apart(name)
        total, parts = viz.sum_in_numbers(found, ["first", "second"]).split("&=")
        summands = re.findall(r"\\underbrace\{(.*?)\}", parts)
        numbers = [math.prod(float(n.strip(" ()")) for n in part.split(r"\times")) for part in summands]
        assert sum(numbers) == pytest.approx(found.prediction, abs=2e-4)
        assert f"{found.prediction:.5f}" in total


def test_an_equation_in_plain_text_becomes_latex() -> None:
    assert viz.equation(by_hand()) == r"F_2 = F_1 + \sum_i W_i \Delta F(i)"
    assert viz.equation(taken_apart()).startswith(r"\begin{aligned}F_2(p)")


def test_the_table_has_the_numbers_of_the_pair_and_ends_with_the_prediction() -> None:
    rows = [tuple(row.values()) for row in viz.term_rows(by_hand(0.5), 1)]
    assert rows == [
        ("Fₖ(p)", "of the second", "0.35000", "reflectance"),
        ("n₂", "of both", "4", "pixels"),
        ("V", "none", "missing", "no unit"),
        ("start", "what the sum is added to", "0.50000", "reflectance"),
        ("sum", "weight x what it says, over all neighbours", "0.22500", "reflectance"),
        ("prediction", "what all parts add up to", "0.72500", "reflectance"),
    ]
    assert [row["symbol"] for row in viz.term_rows(by_hand(), 0)] == ["Fₖ(p)", "n₂", "V", "prediction"]
