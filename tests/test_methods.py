"""The contract that every method keeps, over the whole registry; what a method does not keep it declares itself."""

import importlib.util
import pickle
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion import FusionError, Method, Stack, fuse, methods, param
from landscapes import stack
from networks import DEEP, smallest, weights_for_everything

NAMES = methods.names()


@cache
def variants(name: str) -> list[Method]:
    """The method with its defaults, and with each other choice of each of its choices; windows, networks kept small.

    What matters only while a network is trained is none of its choices here.
    """
    kind = methods.get(name)
    used = [item for item in methods.params(kind) if not item.training]
    small = {item.name: 5 for item in used if item.name == "window"} | smallest(name)
    choices = [(item.name, choice) for item in used for choice in item.choices if choice != item.default]
    return [kind(**small), *(kind(**small, **{key: choice}) for key, choice in choices)]


ALL = [pytest.param(name, id=name) for name in NAMES]
EACH = [pytest.param(m, id=f"{m.name()}-{i}") for name in NAMES for i, m in enumerate(variants(name))]


@pytest.fixture(scope="module", autouse=True)
def weights():
    """Networks have random weights here: what they promise, they promise untrained and trained."""
    with weights_for_everything():
        yield


def pairs_of(method: Method, extra: int = 0) -> tuple[int, ...]:
    """Offsets in days of as many pairs as the method needs, and `extra` more."""
    return (-40, 25, 60, -75, 90, -110)[: method.pairs + extra]


def predict(method: Method, problem: Stack, state=None) -> np.ndarray:
    return method.predict(problem, method.prepare(problem) if state is None else state)


def keeping(law: str) -> list:
    """The variants of every method that does not declare to depart from a law."""
    return [each for each in EACH if law not in each.values[0].departs]


@pytest.mark.parametrize("method", EACH)
@pytest.mark.parametrize("extra", [0, 1])
def test_the_prediction_is_a_finite_float32_image(method, extra):
    problem = stack(pairs_of(method, extra), bands=3)
    got = predict(method, problem)
    assert got.dtype == np.float32 and got.shape == (3, 20, 28)
    assert np.isfinite(got).all()
    assert -0.2 < got.min() and got.max() < 1.2  # reflectance in, reflectance out


@pytest.mark.parametrize("name", ALL)
def test_tiled_equals_whole(name):
    @given(
        variant=st.sampled_from(variants(name)),
        size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
        ratio=st.integers(1, 7),
        tile=st.integers(1, 30),
        extra=st.integers(0, 2),
        bands=st.integers(1, 3),
        gaps=st.integers(0, 2),
        seed=st.integers(0, 1000),
    )
    @settings(max_examples=25)
    def law(variant, size, ratio, tile, extra, bands, gaps, seed):
        offsets = pairs_of(variant, extra)
        problem = stack(offsets, rows=size[0], columns=size[1], ratio=ratio, bands=bands, gaps=gaps, seed=seed)
        if not np.isfinite(problem.target).any():
            return
        usable = np.isfinite(problem.fine).any(axis=(1, 2, 3)) & np.isfinite(problem.coarse).any(axis=(1, 2, 3))
        if not usable.any():
            return
        whole = fuse(problem, variant, tile=1000).data
        np.testing.assert_allclose(fuse(problem, variant, tile=tile).data, whole, atol=1e-5)

    if not methods.get(name).exact:
        pytest.skip(f"{name} declares exact = False: its tiles are feathered")
    law()


@pytest.mark.parametrize("method", EACH)
def test_tiled_equals_whole_where_nothing_changed_and_a_cloud_hangs_elsewhere(method):
    # "No change" must be as true in a tile without the cloud as in the whole image that has it.
    if not method.exact:
        pytest.skip("feathered")
    problem = stack(pairs_of(method), rows=12, columns=12, ratio=3)
    coarse = np.broadcast_to(problem.target, problem.coarse.shape).copy()
    coarse[..., 0, 0] = np.nan
    problem = replace(problem, coarse=coarse)
    np.testing.assert_allclose(fuse(problem, method, tile=9).data, fuse(problem, method).data, atol=1e-6)


@pytest.mark.parametrize("method", keeping("copy"))
@pytest.mark.parametrize("gaps", [0, 2])
def test_no_change_in_no_change_out(method, gaps):
    problem = stack(pairs_of(method), gaps=gaps)
    fine = np.broadcast_to(problem.fine[0], problem.fine.shape)
    still = replace(problem, fine=fine, coarse=np.broadcast_to(problem.target, problem.coarse.shape))
    got = predict(method, still)
    there = np.isfinite(got)
    np.testing.assert_allclose(got[there], problem.fine[0][there], atol=1e-6)
    seen = np.kron(np.isfinite(problem.target), np.ones((4, 4), bool)) & np.isfinite(problem.fine[0])
    assert there[seen].all()


@pytest.mark.parametrize("method", keeping("offset"))
@pytest.mark.parametrize("step", [0.05, -0.02])
def test_a_constant_added_to_the_target_is_added_to_the_prediction(method, step):
    problem = stack(pairs_of(method, 1), gaps=1)
    before = predict(method, problem)
    after = predict(method, replace(problem, target=problem.target + np.float32(step)))
    np.testing.assert_allclose(after, before + step, atol=1e-5)


def turned(problem: Stack, turn) -> Stack:
    """Turn all images alike; the grid keeps its corner, for a method looks at pixels only."""
    fine, coarse, target = (np.ascontiguousarray(turn(a)) for a in (problem.fine, problem.coarse, problem.target))
    geobox = type(problem.geobox)(fine.shape[2:], problem.geobox.affine, problem.geobox.crs)
    return replace(problem, fine=fine, coarse=coarse, target=target, geobox=geobox)


TURNS = {
    "up-down": lambda a: a[..., ::-1, :],
    "left-right": lambda a: a[..., ::-1],
    "transposed": lambda a: a.swapaxes(-1, -2),
}


@pytest.mark.parametrize("method", keeping("turns"))
@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS.keys())
@pytest.mark.parametrize("ratio", [3, 4])
def test_a_turned_problem_has_a_turned_answer(method, turn, ratio):
    problem = stack(pairs_of(method, 1), ratio=ratio, gaps=1)
    np.testing.assert_allclose(predict(method, turned(problem, turn)), turn(predict(method, problem)), atol=1e-5)


@pytest.mark.parametrize("method", EACH)
def test_bands_in_another_order_give_the_answer_in_that_order(method):
    problem, order = stack(pairs_of(method, 1), bands=3, gaps=1), [2, 0, 1]
    mixed = replace(
        problem,
        fine=problem.fine[:, order],
        coarse=problem.coarse[:, order],
        target=problem.target[order],
        bands=tuple(problem.bands[i] for i in order),
    )
    np.testing.assert_allclose(predict(method, mixed), predict(method, problem)[order], atol=1e-5)


@pytest.mark.parametrize("method", keeping("bands"))
def test_a_band_alone_is_predicted_as_among_others(method):
    problem = stack(pairs_of(method), bands=3)
    alone = replace(
        problem,
        fine=problem.fine[:, 1:2],
        coarse=problem.coarse[:, 1:2],
        target=problem.target[1:2],
        bands=problem.bands[1:2],
    )
    np.testing.assert_allclose(predict(method, alone)[0], predict(method, problem)[1], atol=1e-6)


@pytest.mark.parametrize("method", EACH)
@pytest.mark.parametrize("where", ["fine", "coarse", "target"])
def test_a_missing_pixel_matters_no_farther_than_the_halo(method, where):
    ratio, rows, columns = 2, 24, 27
    problem = stack(pairs_of(method, 1), rows=rows, columns=columns, ratio=ratio)
    state = method.prepare(problem)  # whole-image facts, the same for both
    changed = getattr(problem, where).copy()
    y, x = (11, 14) if where != "fine" else (23, 29)
    changed[..., y, x] = np.nan
    before, after = (
        predict(method, problem, state),
        predict(method, replace(problem, **{where: changed}), state),
    )
    size = 1 if where == "fine" else ratio
    _, hit_y, hit_x = np.nonzero(~((before == after) | (np.isnan(before) & np.isnan(after))))
    halo = method.halo(ratio)
    assert ((hit_y >= y * size - halo) & (hit_y < (y + 1) * size + halo)).all()
    assert ((hit_x >= x * size - halo) & (hit_x < (x + 1) * size + halo)).all()
    _, gone_y, gone_x = np.nonzero(np.isnan(after))  # clouds do not grow
    assert ((gone_y // size == y) & (gone_x // size == x)).all()


@pytest.mark.parametrize("method", EACH)
@pytest.mark.parametrize("where", [["fine"], ["fine", "coarse"]], ids=["fine", "both"])
def test_a_pair_that_is_wholly_missing_is_as_none(method, where):
    # It is the nearest one, which leads where a method asks for the nearest.
    offsets = pairs_of(method, 1)
    alone, more = stack(offsets, gaps=1), stack((*offsets, 7), gaps=1)
    k = more.days.index(7)
    images = {side: getattr(more, side).copy() for side in where}
    for image in images.values():
        image[k] = np.nan
    np.testing.assert_allclose(predict(method, replace(more, **images)), predict(method, alone), atol=1e-5)


USE_A_MAP = [
    pytest.param(methods.build(name, given), id=name)
    for name, given in (("ubdf", {}), ("strum", {}), ("fsdaf", {}), ("starfm", {"similarity": "classes"}))
]


@pytest.mark.parametrize("method", USE_A_MAP)
@pytest.mark.parametrize("labels", [(0, 10, 200, 3000), (7, 8, 9, 32767)])
def test_labels_of_a_class_map_may_be_any_numbers(method, labels):
    problem = stack(pairs_of(method, 1), rows=6, columns=8, gaps=1)
    classes = np.kron(np.random.default_rng(0).integers(0, 4, (8, 8)), np.ones((3, 4))).astype(np.int16)
    classes[5:9, 7:12] = -1
    renamed = np.where(classes < 0, -1, np.array(labels)[classes]).astype(np.int16)
    got = predict(method, replace(problem, classes=classes))
    np.testing.assert_allclose(predict(method, replace(problem, classes=renamed)), got, atol=1e-6)
    there = np.isfinite(got)
    assert np.abs(got - predict(method, problem))[there].max() > 1e-3  # the map is used
    np.testing.assert_allclose(
        fuse(replace(problem, classes=renamed), method, tile=8).data[there], got[there], atol=1e-5
    )


@pytest.mark.parametrize("method", EACH)
def test_inputs_stay_as_they_were(method):
    problem = stack(pairs_of(method, 1), gaps=1)
    before = [a.copy() for a in (problem.fine, problem.coarse, problem.target)]
    for array in (problem.fine, problem.coarse, problem.target):
        array.setflags(write=False)
    got = predict(method, problem)
    assert got.flags.writeable and not np.shares_memory(got, problem.fine)
    for array, old in zip((problem.fine, problem.coarse, problem.target), before, strict=True):
        np.testing.assert_array_equal(array, old)


@pytest.mark.parametrize("method", EACH)
def test_the_same_question_has_the_same_answer(method):
    problem = stack(pairs_of(method, 1), gaps=1)
    np.testing.assert_array_equal(predict(method, problem), predict(method, problem))


@pytest.mark.parametrize("method", EACH)
def test_methods_travel_to_workers_and_compare_by_value(method):
    twin = pickle.loads(pickle.dumps(method))
    assert twin == method and hash(twin) == hash(method)
    assert methods.build(method.name(), method.parameters()) == method


PARAMETERS = [
    pytest.param(name, item, id=f"{name}-{item.name}") for name in NAMES for item in methods.params(methods.get(name))
]


@pytest.mark.parametrize(("name", "item"), PARAMETERS)
def test_parameters_are_documented(name, item):
    assert re.fullmatch(r"[A-Za-z0-9].{10,}\.", item.doc), item.doc
    assert not re.search(r"\b(TODO|HR|LR)\b", item.doc)
    if item.kind is float:
        assert item.unit, "a number with a point has a unit"
    if item.kind in (int, float):
        assert item.low is not None and item.high is not None and item.low < item.high


@pytest.mark.parametrize(("name", "item"), PARAMETERS)
def test_parameters_out_of_range_are_refused(name, item):
    kind = methods.get(name)
    bad = [None, [1], {"a": 1}, *([1, 1.5, True] if item.kind is str else ["no such thing"])]
    if item.kind in (int, float):
        step = 1 if item.kind is int else 1e-6
        bad += [item.low - step, item.high + step, float("nan"), float("inf"), 10**400, True, "5", 1j]
    if item.kind is int:
        bad += [item.low + 0.5, *([item.low + 1] if item.odd else [])]
    if item.choices:
        bad += ["no such thing", "", item.choices[0].upper()]
    for value in bad:
        with pytest.raises(FusionError) as caught:
            kind(**{item.name: value})
        message = str(caught.value)
        assert item.name in message and "wants" in message and f"got {value!r}" in message
        assert repr(item.default) in message and kind.title in message


def ends(item) -> tuple:
    """Every choice, both ends of a range, or of free text the default."""
    return item.choices or {bool: (False, True), str: (item.default,)}.get(item.kind, (item.low, item.high))


@pytest.mark.parametrize(("name", "item"), PARAMETERS)
def test_the_ends_of_the_range_are_allowed_and_work(name, item):
    kind = methods.get(name)
    for value in ends(item):
        method = kind(**{**smallest(name), item.name: value})
        assert type(getattr(method, item.name)) is item.kind
        if item.training:
            continue  # a network as large as can be is none to run in a test
        assert np.isfinite(predict(method, stack(pairs_of(method), bands=1))).all()


@pytest.mark.parametrize("name", ALL)
def test_methods_say_where_they_come_from(name):
    kind = methods.get(name)
    assert re.search(r"doi:10\.\d{4,}/\S+", kind.paper)
    assert kind.title and kind.summary().endswith(".") and len(kind.summary()) < 100
    assert len(kind.explanation()) > 100 and "---" not in kind.explanation()
    assert kind.pairs >= 1 and kind.name() == name
    assert kind.family in methods.FAMILIES
    assert set(kind.departs) <= set(methods.LAWS) and all(len(reason) > 10 for reason in kind.departs.values())


def test_the_methods_that_users_rely_on_are_there():
    floors = {"nearest", "delta"}
    assert floors | {"starfm", "estarfm", "fsdaf", "fitfc", "ubdf", "strum", "spstfm", "stnlffm", "efast"} <= set(NAMES)


def test_listing_methods_imports_none():
    code = "import sys; from fusion import methods; methods.names(); print(list(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not [name for name in NAMES if f"fusion.methods.{name}'" in out]


def test_an_unknown_method_or_parameter_is_named_with_what_there_is():
    with pytest.raises(FusionError, match="no method 'starfn'.*delta, .*nearest, .*starfm.*Did you mean 'starfm'"):
        methods.build("starfn", {})
    with pytest.raises(FusionError, match="no method '_windows'"):
        methods.get("_windows")
    with pytest.raises(FusionError, match="Delta has no parameter 'windw'; it has kernel"):
        methods.build("delta", {"windw": 3})
    with pytest.raises(FusionError, match="Nearest has no parameter 'x'; it has none"):
        methods.build("nearest", {"x": 1})


def test_numbers_from_json_and_forms_take_the_declared_type():
    method = methods.build("starfm", {"window": 31.0, "scale": 20, "classes": np.int64(4)})
    assert [type(v) for v in (method.window, method.scale, method.classes)] == [int, float, int]
    assert method == methods.get("starfm")(window=31, scale=20.0, classes=4)


OWN = '''
"""A method in a file of one's own."""
from dataclasses import dataclass
from fusion import Method, param, register

@register
@dataclass(frozen=True)
class Mean(Method):
    """Mean of the fine images."""

    title = "Mean"
    paper = "none"
    gain: float = param(1.0, doc="Factor.", low=0.5, high=2)

    def predict(self, stack, state):
        return stack.fine.mean(axis=0) * self.gain
'''


@pytest.fixture
def own_file(tmp_path, monkeypatch):
    """Import a file as a user would, and forget it afterwards."""
    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))

    def load(name, text=OWN):
        path = tmp_path / f"{name.rpartition('.')[2]}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def test_a_method_in_a_file_of_ones_own_is_a_method_like_any(own_file):
    own_file("average")
    assert "average" in methods.names()
    method = methods.build("average", {"gain": 2})
    assert method.family == ""  # need not be said
    problem = stack()
    np.testing.assert_allclose(fuse(problem, method, tile=5).data, 2 * problem.fine.mean(axis=0), rtol=1e-6)
    with pytest.raises(FusionError, match="gain wants a number from 0.5 to 2, got 3"):
        methods.build("average", {"gain": 3})


def test_two_methods_of_one_name_collide(own_file):
    own_file("one.average")
    own_file("one.average")  # the same file again, as a notebook does
    with pytest.raises(ValueError, match="'average': one.average and two.average"):
        own_file("two.average")


def test_a_file_of_ones_own_cannot_replace_a_method_that_comes_with_fusion(own_file):
    with pytest.raises(ValueError, match="'delta' comes with fusion"):
        own_file("elsewhere.delta")
    assert methods.get("delta").title == "Delta"


def test_parameters_of_other_types_are_refused():
    @dataclass(frozen=True)
    class Odd(Method):
        """Odd."""

        title = "Odd"
        size: list = param(None, doc="A list.")

    with pytest.raises(TypeError, match="Odd.size: parameters are int, float, bool, str or Literal"):
        Odd()


@pytest.mark.parametrize("name", ALL)
def test_networks_and_only_they_are_of_the_family_of_deep_learning(name):
    assert (methods.get(name).family == "deep learning") == (name in DEEP)
    assert not any(item.training for item in methods.params(methods.get(name))) or name in DEEP


LAWS = {
    "copy": lambda method: test_no_change_in_no_change_out(method, 0),
    "offset": lambda method: test_a_constant_added_to_the_target_is_added_to_the_prediction(method, 0.05),
    "bands": test_a_band_alone_is_predicted_as_among_others,
    "turns": lambda method: test_a_turned_problem_has_a_turned_answer(method, TURNS["transposed"], 4),
}


@pytest.mark.parametrize("name", ALL)
def test_a_declared_departure_is_real_and_none_is_invented(name):
    usual = variants(name)[0]
    assert set(usual.departs) <= set(LAWS) == set(methods.LAWS)
    for law in usual.departs:
        with pytest.raises(AssertionError):
            LAWS[law](usual)
