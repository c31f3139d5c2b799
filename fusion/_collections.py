"""Satellite collections: bands, scale, valid range, masks, licence and citation of each, one row a source.

Bits and scales are those of the products' own guides:

- Landsat Collection 2 Level-2 (LSDS-1619): QA_PIXEL bits 0 fill, 1 dilated cloud, 2 cirrus, 3 cloud, 4 shadow, 5 snow.
- MOD09 user's guide, collection 6.1: 16-bit state, bits 0-1 cloud, 2 shadow, 8-9 cirrus, 10 internal cloud, 12 and 15
  snow, 13 next to a cloud. MCD43A4: one quality number a band, 0 = full inversion.
- Sentinel-2 Level-2A scene classification: 0 no data, 1 saturated, 3 shadow, 8 and 9 cloud, 10 cirrus, 11 snow.
- HLS v2.0 user guide: Fmask bits 1 cloud, 2 next to a cloud, 3 shadow, 4 snow.
- Sentinel-3 OLCI Level-1: quality flags 25 invalid, 27 bright.
"""

from dataclasses import replace

from ._product import Product, Rule

SIX = ("blue", "green", "red", "nir", "swir1", "swir2")
_FREE = "public domain"
_COPERNICUS = "free and open, with attribution (Copernicus data terms)"
_USGS = "Landsat Collection 2 Level-2 courtesy of the U.S. Geological Survey"
_ESA = "Contains modified Copernicus Sentinel data"
_HLS = "Masek, J. et al. (2021). HLS Operational Land Imager Surface Reflectance v2.0. doi:10.5067/HLS/HLSL30.002"
_HLSS = "Masek, J. et al. (2021). HLS Sentinel-2 MSI Surface Reflectance v2.0. doi:10.5067/HLS/HLSS30.002"
_MODIS = {
    "mod09ga": "Vermote, E. & Wolfe, R. (2021) MODIS/Terra Reflectance Daily L2G. doi:10.5067/MODIS/MOD09GA.061",
    "myd09ga": "Vermote, E. & Wolfe, R. (2021) MODIS/Aqua Reflectance Daily L2G. doi:10.5067/MODIS/MYD09GA.061",
    "mod09a1": "Vermote, E. (2021). MODIS/Terra Surface Reflectance 8-Day L3. doi:10.5067/MODIS/MOD09A1.061",
    "mcd43a4": "Schaaf, C., Wang, Z. (2021). MODIS/Terra+Aqua Nadir BRDF-Adjusted. doi:10.5067/MODIS/MCD43A4.061",
}


def _flag(what: str, band: str, bit: int, width: int = 1, good: tuple[int, ...] = (0,)) -> Rule:
    return Rule(what, band, good=good, first=bit, width=width)  # type: ignore[arg-type]


def _landsat_rules(pixel: str, saturation: str) -> tuple[Rule, ...]:
    bits = (("fill", 0), ("cloud", 1), ("cirrus", 2), ("cloud", 3), ("shadow", 4), ("snow", 5))
    return (*(_flag(what, pixel, bit) for what, bit in bits), Rule("saturation", saturation, good=(0,)))


def _state_rules(state: str) -> tuple[Rule, ...]:
    return (
        _flag("cloud", state, 0, 2, (0, 3)), _flag("shadow", state, 2), _flag("cirrus", state, 8, 2),
        _flag("cloud", state, 10), _flag("cloud", state, 13), _flag("snow", state, 12), _flag("snow", state, 15),
    )  # fmt: skip


def _scene_rules(scene: str) -> tuple[Rule, ...]:
    bad = (
        ("fill", (0,)),
        ("saturation", (1,)),
        ("shadow", (3,)),
        ("cloud", (8, 9)),
        ("cirrus", (10,)),
        ("snow", (11,)),
    )
    return tuple(Rule(what, scene, bad=values) for what, values in bad)  # type: ignore[arg-type]


_FMASK = tuple(_flag(what, "Fmask", bit) for what, bit in (("cloud", 1), ("cloud", 2), ("shadow", 3), ("snow", 4)))
_FMASK = (Rule("fill", "Fmask", bad=(255,)), *_FMASK)

_EE = (
    Product(
        "landsat", "earthengine", "Landsat 8 and 9, surface reflectance, 30 m", "fine", SIX, 30, "observed",
        _FREE, _USGS,
        scale=2.75e-5, offset=-0.2, valid=(1, 65455), fill=0, anchor=15,
        native=("SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B6", "SR_B7"),
        collection=("LANDSAT/LC08/C02/T1_L2", "LANDSAT/LC09/C02/T1_L2"), rules=_landsat_rules("QA_PIXEL", "QA_RADSAT"),
    ),
    Product(
        "sentinel2", "earthengine", "Sentinel-2 Level-2A, harmonised, 10 m", "fine", SIX, 10, "observed",
        _COPERNICUS, _ESA,
        scale=1e-4, valid=(1, 65535), fill=0, native=("B2", "B3", "B4", "B8", "B11", "B12"),
        collection=("COPERNICUS/S2_SR_HARMONIZED",), rules=_scene_rules("SCL"),
        note="The two short-wave infrared bands have 20 m; each of their pixels is repeated four times.",
    ),
    Product(
        "hls-l30", "earthengine", "HLS Landsat (L30), 30 m", "fine", SIX, 30, "observed", _FREE, _HLS,
        native=("B2", "B3", "B4", "B5", "B6", "B7"), collection=("NASA/HLS/HLSL30/v002",), rules=_FMASK,
        note="Nadir BRDF-adjusted, like MCD43A4.",
    ),
    Product(
        "hls-s30", "earthengine", "HLS Sentinel-2 (S30), 30 m", "fine", SIX, 30, "observed", _FREE, _HLSS,
        native=("B2", "B3", "B4", "B8A", "B11", "B12"), collection=("NASA/HLS/HLSS30/v002",), rules=_FMASK,
        note="Nadir BRDF-adjusted, like MCD43A4; nir is the narrow band 8A.",
    ),
    Product(
        "mcd43a4", "earthengine", "MODIS nadir BRDF-adjusted, daily, 500 m", "coarse", SIX, 480, "observed", _FREE,
        _MODIS["mcd43a4"], scale=1e-4, valid=(0, 32766), fill=32767,
        native=tuple(f"Nadir_Reflectance_Band{n}" for n in (3, 4, 1, 2, 6, 7)), collection=("MODIS/061/MCD43A4",),
        rules=(Rule("quality", "BRDF_Albedo_Band_Mandatory_Quality_{band}", good=(0,)),),
        note="The better partner for Landsat; it looks at 16 days at once, so a sudden change is smeared over them.",
    ),
    Product(
        "mod09ga", "earthengine", "MODIS Terra, daily, 500 m", "coarse", SIX, 480, "observed", _FREE,
        _MODIS["mod09ga"], scale=1e-4, valid=(-100, 16000), fill=-28672,
        native=tuple(f"sur_refl_b0{n}" for n in (3, 4, 1, 2, 6, 7)), collection=("MODIS/061/MOD09GA",),
        rules=_state_rules("state_1km"), note="One look a day: sharp in time, but the viewing angle changes daily.",
    ),
    Product(
        "olci", "earthengine", "Sentinel-3 OLCI, top of atmosphere, 300 m (advanced)", "coarse", SIX[:4], 300,
        "observed", _COPERNICUS, _ESA,
        native=("Oa04_radiance", "Oa06_radiance", "Oa08_radiance", "Oa17_radiance"), collection=("COPERNICUS/S3/OLCI",),
        rules=(_flag("fill", "quality_flags", 25), _flag("cloud", "quality_flags", 27)),
        level="top-of-atmosphere reflectance",
        note="Not corrected for the atmosphere, no short-wave infrared, clouds told by brightness only. Use harmonise.",
    ),
)  # fmt: skip
_MYD = replace(
    _EE[5],
    name="myd09ga",
    title="MODIS Aqua, daily, 500 m",
    collection=("MODIS/061/MYD09GA",),
    citation=_MODIS["myd09ga"],
)

_STAC = (
    replace(
        _EE[0], source="stac", native=("blue", "green", "red", "nir08", "swir16", "swir22"),
        collection=("landsat-c2-l2",), rules=_landsat_rules("qa_pixel", "qa_radsat"),
    ),
    replace(
        _EE[1], source="stac", title="Sentinel-2 Level-2A, 10 m", collection=("sentinel-2-l2a",),
        native=("B02", "B03", "B04", "B08", "B11", "B12"),
    ),
    replace(
        _EE[2], source="stac", native=("B02", "B03", "B04", "B05", "B06", "B07"), collection=("hls2-l30",),
        scale=1e-4, fill=-9999,
    ),
    replace(
        _EE[3], source="stac", native=("B02", "B03", "B04", "B8A", "B11", "B12"), collection=("hls2-s30",),
        scale=1e-4, fill=-9999,
    ),
    replace(_EE[4], source="stac", collection=("modis-43A4-061",)),
    replace(
        _EE[5], source="stac", name="mod09a1", title="MODIS Terra, best of 8 days, 500 m",
        collection=("modis-09A1-061",), citation=_MODIS["mod09a1"], rules=_state_rules("sur_refl_state_500m"), span=8,
        note="Each pixel is the clearest of eight days; the day of a pair may lie anywhere within them.",
    ),
)  # fmt: skip

ROWS = (*_EE[:6], _MYD, _EE[6], *_STAC)
