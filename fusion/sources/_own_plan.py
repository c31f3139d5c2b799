"""From headers and answers to a plan: the grid of a data set, its images, and how each lies on that grid."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from affine import Affine
from odc.geo.geobox import GeoBox

from ..errors import FusionError
from ..overlay import placed
from . import Bounds, _own_guess, _own_names, _own_place
from ._local_grid import footprint
from ._own_facts import STEPS, Draft, Facts, Image, Plan, Question, put
from ._own_look import Header

__all__ = ["Facts", "Image", "Plan", "Question", "bounds", "crs_words", "grid", "make"]
USUAL_RATIO = 16  # MODIS pixels of 500 m in pixels of 30 m


def make(heads: Sequence[Header], answers: Mapping[str, str]) -> Plan:
    """Draw up the plan."""
    draft = Draft(sorted(heads, key=lambda head: head.name), answers)
    for step in STEPS:
        step(draft)
    if draft.of(""):
        return _closed(draft)
    for role in ("fine", "coarse"):
        if not draft.of(role):
            other = "Landsat or Sentinel-2" if role == "fine" else "MODIS or Sentinel-3"
            draft.problems.append(f"There is no {role} image among the files: add some, such as {other}.")
    if draft.problems or not draft.of("fine") or not draft.of("coarse"):
        return _closed(draft)
    return _placed(draft)


def _closed(draft: Draft, **more: Any) -> Plan:
    notes = [*draft.notes, *_unit_notes(draft)]
    return Plan(draft.facts, tuple(draft.questions), tuple(notes), tuple(draft.problems), **more)


def _placed(draft: Draft) -> Plan:
    """The grid of the data set, and how every image lies on it."""
    fine = [head for heads in draft.of("fine").values() for head in heads]
    grids = Counter((head.shape, head.transform, head.crs) for head in fine)
    first = grids.most_common(1)[0][0]
    base = next(head for head in fine if (head.shape, head.transform, head.crs) == first)
    size = _size(draft, base)
    for heads in draft.of("fine").values():
        for head in heads:
            _place_fine(draft, head, base)
    for key, heads in draft.of("coarse").items():
        _place_coarse(draft, key, heads, base)
    ratio = _ratio(draft, base, size)
    if not draft.of("coarse"):
        draft.problems.append("No coarse file lies on the grid of the fine ones: give files of one place.")
    if draft.questions or draft.problems or not ratio or not size:
        return _closed(draft, base=base, size=size or 0.0, ratio=ratio)
    return _imaged(draft, base, size, ratio)


def _size(draft: Draft, base: Header) -> float | None:
    given = draft.answers.get("size")
    if given is not None and base.crs is None:
        return float(given)
    if (side := _own_guess.pixel(base)) is not None:
        return side
    sensor = _own_names.sensor_of(base.name)
    likely = f"{sensor.pixel:g}" if sensor and sensor.role == "fine" else "30"
    choices = tuple((text, f"{text} m") for text in dict.fromkeys((likely, "30", "25", "10", "20")))
    draft.ask("size", "How many metres is a fine pixel?", "the fine files have no georeference", choices, likely)
    return None


def _place_fine(draft: Draft, head: Header, base: Header) -> None:
    place = _own_place.place(head, base)
    if place == "none":
        draft.set_aside(
            head, f"it has {_shape(head)} pixels and {base.name} {_shape(base)}, and no CRS says how they lie"
        )
    elif place == "warp" and not _overlap(head, base):
        draft.set_aside(head, f"it lies elsewhere than {base.name}")
    elif place != "grid":
        put(draft, [head], f"its grid differs from that of {base.name}: brought onto it once (cubic)", place="warp")
        draft.notes.append(f"{head.name} lies on another grid than {base.name}: brought onto it once (cubic).")


def _place_coarse(draft: Draft, key: str, heads: Sequence[Header], base: Header) -> None:
    for head in heads:
        place = _own_place.place(head, base)
        if place == "conflict":
            place = _ask_place(draft, key, head, base) or "grid"
        if place == "none":
            draft.set_aside(
                head, f"it has {_shape(head)} pixels, the fine ones {_shape(base)}, and no CRS says how they lie"
            )
            continue
        if place == "warp" and not _overlap(head, base):
            draft.set_aside(head, f"it lies elsewhere than {base.name}")
            continue
        words = {"grid": "", "native": "own coarse pixels, nested in the fine ones", "warp": "warped once (cubic)"}
        put(draft, [head], words[place], place=place)
    if any(draft.facts[head.name].place == "warp" for head in heads if draft.facts[head.name].use == "coarse"):
        draft.notes.append(
            f"{key}: brought once onto whole coarse pixels of the fine grid (cubic; mean where smaller)."
        )


def _overlap(head: Header, base: Header) -> bool:
    """Tell whether two footprints meet; where one crosses the antimeridian, give the benefit of the doubt."""
    one, other = bounds(head), bounds(base)
    if one is None or other is None or one[2] - one[0] > 180 or other[2] - other[0] > 180:
        return True
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _ask_place(draft: Draft, key: str, head: Header, base: Header) -> str | None:
    given = draft.answers.get(f"place:{key}")
    if given is not None:
        return "grid" if given == "pixels" else "warp"
    if f"place:{key}" in [one.id for one in draft.questions]:
        return None
    fine = min(
        (one for heads in draft.of("fine").values() for one in heads if one.shape == head.shape),
        key=lambda one: (_apart(draft, head, one), one.name),
    )
    bands = [draft.facts[one.name].bands for one in (head, fine)]
    band = next((name for name in ("nir", *bands[0]) if name in bands[0] and name in bands[1]), None)
    where = [names.index(band) if band else 0 for names in bands]
    said = _own_place.conflict(head, fine, where[0], where[1])
    side = _own_guess.pixel(base) or 1.0
    why = (
        f"as many pixels as {fine.name}, but the georeference puts them {said.right * side:.0f} m to the right and "
        f"{said.down * side:.0f} m down; correlation pixel for pixel {said.pixels:.3f}, "
        f"by georeference {said.georeference:.3f}"
    )
    choices = (
        ("pixels", f"the pixels line up (correlation {said.pixels:.3f})"),
        ("georeference", f"the georeference is right (correlation {said.georeference:.3f})"),
    )
    likely = "pixels" if said.pixels >= said.georeference else "georeference"
    draft.ask(f"place:{key}", f"How do the files {key} lie on the fine ones?", why, choices, likely)
    return None


def _apart(draft: Draft, one: Header, other: Header) -> int:
    days = [draft.facts[head.name].days[0] for head in (one, other)]
    return abs((days[0] - days[1]).days) if days[0] and days[1] else 10**6


def _ratio(draft: Draft, base: Header, size: float | None) -> int:
    """Fine pixels per coarse pixel: of nested grids, of steps in the image, or of the sensor."""
    if "ratio" in draft.answers:
        return int(draft.answers["ratio"])
    coarse = [head for heads in draft.of("coarse").values() for head in heads]
    found: Counter[tuple[int, str]] = Counter()
    for head in coarse:
        found[_ratio_of(draft, head, base, size)] += 1
    if not found:
        return 0
    (ratio, why), _ = found.most_common(1)[0]
    if ratio and len({one for one, _ in found}) == 1:
        draft.notes.append(f"A coarse pixel is {ratio} x {ratio} fine pixels: {why}.")
        return ratio
    if size is None:
        return 0  # asked first
    likely = ratio or USUAL_RATIO
    text = "How many fine pixels is a coarse pixel wide?"
    draft.ask("ratio", text, "; ".join(sorted({why for _, why in found})), ((str(likely), f"{likely}"),), str(likely))
    return 0


def _ratio_of(draft: Draft, head: Header, base: Header, size: float | None) -> tuple[int, str]:
    place, side = draft.facts[head.name].place, _own_guess.pixel(head)
    if place == "native":
        return _own_place.nested(head, base), "its grid nests in the fine one"
    if place == "warp" and side and size and side > 1.5 * size:
        ratio = max(round(side / size), 1)
        return ratio, f"its pixels are {side:.0f} m, made {ratio * size:g} m"
    if head.block > 1:
        return head.block, f"its values repeat every {head.block} pixels"
    sensor = _own_names.sensor_of(head.name)
    if sensor and sensor.role == "coarse" and size:
        ratio = max(math.floor(sensor.pixel / size + 0.01), 1)
        return ratio, f"{sensor.name} has {sensor.pixel:g} m, the whole fine pixels in it make {ratio * size:g} m"
    return 0, "coarse images on the fine grid, and neither name nor pixels say the sensor's own pixel"


def _imaged(draft: Draft, base: Header, size: float, ratio: int) -> Plan:
    """The images, and the checks that need all of them."""
    _own_place.check_shapes(ratio, base.shape)
    if cut := _own_place.left_out(ratio, base.shape):
        draft.notes.append(cut)
    images = [*_images(draft, "fine"), *_images(draft, "coarse")]
    images += _composites(draft, images)
    common = [set(image.parts) for image in images]
    order = next(image for image in images if image.role == "fine").parts
    bands = tuple(band for band in order if all(band in own for own in common))
    if not bands:
        draft.problems.append("Fine and coarse files have no band in common: answer their bands.")
    days = {role: {image.day for image in images if image.role == role} for role in ("fine", "coarse")}
    if not days["fine"] & days["coarse"]:
        draft.problems.append("No day has a fine and a coarse image, so there is no pair: add images or correct days.")
    images = sorted(images, key=lambda image: (image.role, image.day))
    return _closed(draft, images=tuple(images), bands=bands, base=base, size=size, ratio=ratio)


def _images(draft: Draft, role: str) -> list[Image]:
    parts: dict[date, dict[str, tuple[str, str, int]]] = defaultdict(dict)
    masks: dict[date, list[tuple[str, str]]] = defaultdict(list)
    spans: dict[date, int] = {}
    for head in [head for heads in draft.of(role).values() for head in heads]:
        facts = draft.facts[head.name]
        for step, day in enumerate(facts.days):
            if day is None:
                continue
            own = {band: _part(head, facts, step, i) for i, band in enumerate(facts.bands) if band not in ("-", "")}
            if parts[day].keys() & own.keys():
                draft.notes.append(
                    f"{head.name} is a second {role} file of {day} and left out: mosaic the files first."
                )
                continue
            parts[day].update(own)
            spans[day] = max(facts.series, 1)
            masks[day] += [one for one in _masks_of(draft, head, day) if one not in masks[day]]
    return [Image(role, day, parts[day], tuple(masks[day]), spans.get(day, 1)) for day in sorted(parts) if parts[day]]


def _part(head: Header, facts: Facts, step: int, band: int) -> tuple[str, str, int]:
    if head.layers:
        return head.name, head.layers[band], step
    return head.name, "", step if facts.series else step * head.count + band


def _masks_of(draft: Draft, head: Header, day: date) -> list[tuple[str, str]]:
    """Masks of a file: of its day and shape, and of its side where the mask's name says one."""
    found = []
    for mask in [mask for heads in draft.of("mask").values() for mask in heads]:
        facts, sensor = draft.facts[mask.name], _own_names.sensor_of(mask.name)
        side = (sensor.role if sensor else None) or _own_names.folder_role(mask.name)
        if day in facts.days and mask.shape == head.shape and side in (None, draft.facts[head.name].use):
            found.append((mask.name, facts.mask))
    return found


def _composites(draft: Draft, images: Sequence[Image]) -> list[Image]:
    """A composite of several days stands for the fine days in it."""
    have = {image.day for image in images if image.role == "coarse"}
    out = []
    for day in sorted({image.day for image in images if image.role == "fine"} - have):
        for image in images:
            if image.role == "coarse" and image.span > 1 and 0 <= (day - image.day).days < image.span:
                out.append(Image("coarse", day, image.parts, image.masks, image.span))
    if out:
        draft.notes.append(f"{len(out)} fine days get the coarse composite that they lie in.")
    return out


def _unit_notes(draft: Draft) -> list[str]:
    """Name different units of the two sides: each is read in its own."""
    words = {}
    for role in ("fine", "coarse"):
        scales = {draft.facts[h.name].scale for heads in draft.of(role).values() for h in heads} - {""}
        words[role] = scales
    both = [*words["fine"], *words["coarse"]]
    if not (words["fine"] and words["coarse"]) or _own_guess.same_unit(both):
        return []
    said = [f"{role}: {', '.join(sorted(_own_guess.label(text) for text in words[role]))}" for role in words]
    return [f"Units differ ({'; '.join(said)}): each is read in its own."]


def _shape(head: Header) -> str:
    return f"{head.shape[0]} x {head.shape[1]}"


def crs_words(head: Header) -> str:
    """CRS of a file in few words; "" without."""
    if head.crs is None:
        return ""
    crs = _own_place.geobox(head).crs
    code = crs.to_epsg() if crs is not None else None
    return f"EPSG:{code}" if code else "its own CRS"


def bounds(head: Header) -> Bounds | None:
    """Footprint in degrees; without a CRS as if units were Mercator metres at longitude 0, latitude 0."""
    box = footprint(placed(_own_place.geobox(head)))
    return box if all(map(math.isfinite, box)) else None


def grid(plan: Plan) -> GeoBox:
    """Grid of the fine images of a complete plan, cut to whole coarse pixels."""
    if plan.base is None:
        raise FusionError("The proposal has no fine file: answer its questions first.")
    affine = Affine(*plan.base.transform)
    if plan.base.crs is None and affine.is_identity:
        affine = Affine(plan.size, 0, 0, 0, -plan.size, 0)
    whole = GeoBox(plan.base.shape, affine, plan.base.crs)
    rows, columns = (side // plan.ratio * plan.ratio for side in plan.base.shape)
    return whole[:rows, :columns]
