"""Scene: one image on a grid, from and to GeoTIFF, COG and xarray."""

import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import reproject

from .errors import FusionError

if TYPE_CHECKING:
    import xarray

ROI = tuple[slice, slice]
NO_TAGS: Mapping[str, str] = MappingProxyType({})
MAX_PIXELS = 200_000_000  # over all bands; a file that claims more is refused before it is read


@dataclass(frozen=True, eq=False)
class Scene:
    """One image: surface reflectance on a grid.

    Parameters
    ----------
    data : numpy.ndarray
        ``(band, y, x)`` float32 surface reflectance, 0..1, NaN = missing.
    geobox : odc.geo.geobox.GeoBox
        CRS, affine transform and shape of the pixels.
    bands : tuple of str
        Common names: "blue", "green", "red", "nir", "swir1", "swir2".
    day : datetime.date
        Day of acquisition.

    Raises
    ------
    ValueError
        If the array is not float32 ``(band, y, x)`` or does not fit the grid or the names.

    Examples
    --------
    >>> from datetime import date
    >>> import numpy as np
    >>> from odc.geo.geobox import GeoBox
    >>> grid = GeoBox.from_bbox((0, 0, 60, 90), "EPSG:32633", resolution=30)
    >>> scene = Scene(np.zeros((1, 3, 2), np.float32), grid, ("red",), date(2020, 5, 1))
    >>> scene[0:2, 0:1].shape
    (1, 2, 1)
    """

    data: np.ndarray
    geobox: GeoBox
    bands: tuple[str, ...]
    day: date

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", tuple(self.bands))
        if self.data.ndim != 3 or self.data.dtype != np.float32:
            raise ValueError(
                f"Scene wants float32 (band, y, x), got {self.data.dtype} with shape {self.data.shape}: "
                "scale digital numbers to reflectance and pass data.astype('float32')."
            )
        if self.data.shape[1:] != tuple(self.geobox.shape):
            raise ValueError(
                f"Scene data is {self.data.shape[1:]} (y, x) but its geobox is {tuple(self.geobox.shape)}: "
                "pass the geobox of these very pixels."
            )
        if len(self.bands) != self.data.shape[0] or len(set(self.bands)) != len(self.bands):
            raise ValueError(
                f"Scene has {self.data.shape[0]} bands but the names {self.bands}: give one distinct name per band."
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(band, y, x)``."""
        bands, height, width = self.data.shape
        return bands, height, width

    @property
    def valid(self) -> float:
        """Share of pixels with a value in every band, 0..1."""
        return float(np.isfinite(self.data).all(axis=0).mean()) if self.data.size else 0.0

    def __getitem__(self, roi: ROI) -> "Scene":
        """Cut out ``scene[y0:y1, x0:x1]``; pixels are shared, not copied."""
        check_window(roi)
        return replace(self, data=self.data[(slice(None), *roi)], geobox=self.geobox[roi])

    def select(self, bands: Sequence[str]) -> "Scene":
        """Return the named bands, in the order given."""
        missing = [band for band in bands if band not in self.bands]
        if missing:
            raise FusionError(
                f"Band {', '.join(missing)} is not in the scene of {self.day}, which has {', '.join(self.bands)}: "
                "choose among these."
            )
        return replace(self, data=self.data[[self.bands.index(band) for band in bands]], bands=tuple(bands))

    def to(self, geobox: GeoBox, resampling: str = "cubic") -> "Scene":
        """Resample onto another grid; pixels outside this scene become NaN.

        Parameters
        ----------
        geobox : odc.geo.geobox.GeoBox
            Grid wanted.
        resampling : str
            A name of :class:`rasterio.enums.Resampling`: "nearest", "bilinear", "cubic", "average", ...

        Raises
        ------
        FusionError
            If one grid has a CRS and the other has none.
        """
        if resampling not in Resampling.__members__:
            raise ValueError(f"There is no resampling {resampling!r}: use one of {', '.join(Resampling.__members__)}.")
        if geobox == self.geobox:
            return self
        if (geobox.crs is None) != (self.geobox.crs is None):
            raise FusionError(
                f"Cannot bring the scene of {self.day} from CRS {self.geobox.crs} to CRS {geobox.crs}: "
                "give both images a coordinate reference system."
            )
        crs = "EPSG:3857"  # any: without georeference both sides share one plane
        out = np.full((len(self.bands), *geobox.shape), np.nan, np.float32)
        reproject(
            self.data,
            out,
            src_transform=self.geobox.affine,
            src_crs=str(self.geobox.crs or crs),
            dst_transform=geobox.affine,
            dst_crs=str(geobox.crs or crs),
            src_nodata=np.nan,
            dst_nodata=np.nan,
            resampling=Resampling[resampling],
        )
        return replace(self, data=out, geobox=geobox)

    def write(self, path: str | os.PathLike[str], tags: Mapping[str, str] = NO_TAGS) -> None:
        """Write a Cloud Optimized GeoTIFF; the file appears whole or not at all.

        CRS, transform, NaN as nodata, band names, the day (tag ``DATE``), overviews where the image is larger
        than one 256-pixel block, and `tags` are written with the float32 reflectance.
        """
        path = Path(path)
        handle, name = tempfile.mkstemp(suffix=".tif", prefix=f".{path.stem}-", dir=path.parent)
        os.close(handle)
        try:
            self._write_cog(name, {"DATE": self.day.isoformat(), "UNITS": "surface reflectance", **tags})
            os.chmod(name, 0o644)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)

    def _write_cog(self, name: str, tags: Mapping[str, str]) -> None:
        bands, height, width = self.shape
        with (
            _place_or_none(),
            rasterio.open(
                name,
                "w",
                driver="COG",
                count=bands,
                height=height,
                width=width,
                dtype="float32",
                nodata=np.nan,
                crs=None if self.geobox.crs is None else str(self.geobox.crs),
                transform=self.geobox.affine,
                compress="DEFLATE",
                predictor="YES",
                blocksize=256,
                overview_resampling="AVERAGE",
                bigtiff="IF_SAFER",
            ) as file,
        ):
            file.write(self.data)
            file.descriptions = self.bands
            file.update_tags(**tags)

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        *,
        bands: Sequence[str] | None = None,
        day: date | None = None,
        scale: float | Sequence[float] | None = None,
        offset: float | Sequence[float] | None = None,
        nodata: float | None = None,
    ) -> "Scene":
        """Read any raster that GDAL reads.

        Parameters
        ----------
        path : path
            A file, or a URL that GDAL understands.
        bands : sequence of str, optional
            Names of all the file's bands; default is the file's own band descriptions.
        day : datetime.date, optional
            Day of acquisition; default is the file's tag ``DATE``.
        scale, offset : float or sequence of float, optional
            ``reflectance = number * scale + offset``, one for all bands or one each; default is what is written in the
            file; with a `scale` of your own the default offset is 0. A file of whole numbers that states no scale
            wants one from you.
        nodata : float, optional
            Number that means missing, beside the file's own nodata and mask.

        Raises
        ------
        FusionError
            If the file cannot be read, is too large, or says neither its day nor its bands nor its scale.
        """
        with opened(path) as file:
            _check_size(file, path)
            names, when = _names(file, bands, path), _day(file, day, path)
            if scale is None:
                _check_scale(file, path)
            numbers = file.read(masked=True)
            factor = np.asarray(file.scales if scale is None else scale, np.float64).reshape(-1, 1, 1)
            own = file.offsets if scale is None else 0.0
            shift = np.asarray(own if offset is None else offset, np.float64).reshape(-1, 1, 1)
            geobox = GeoBox(file.shape, file.transform, _crs(file))
        missing = np.ma.getmaskarray(numbers) | (numbers.data == nodata if nodata is not None else False)
        data = (numbers.data * factor + shift).astype(np.float32)
        data[missing | ~np.isfinite(data)] = np.nan
        return cls(data, geobox, names, when)

    def to_xarray(self) -> "xarray.DataArray":
        """Return a DataArray ``(band, y, x)`` with ``spatial_ref``, band names and the day as ``time``."""
        from odc.geo.xr import wrap_xr

        array: Any = wrap_xr(self.data, self.geobox, nodata=float("nan"), axis=1)
        array = array.rename({array.dims[0]: "band"}) if array.dims[0] != "band" else array
        out: xarray.DataArray = array.assign_coords(
            band=list(self.bands), time=np.datetime64(self.day.isoformat(), "ns")
        ).assign_attrs(units="surface reflectance")
        if self.geobox.crs is None:
            out.encoding.pop("grid_mapping", None)  # names a coordinate that is not there; odc-geo would warn
        return out

    @classmethod
    def from_xarray(cls, array: "xarray.DataArray", day: date | None = None) -> "Scene":
        """Take a DataArray ``(band, y, x)`` such as rioxarray, odc-stac or :meth:`to_xarray` make.

        Raises
        ------
        FusionError
            If it has no grid, no band names or no day.
        """
        import odc.geo.xr  # noqa: F401 - registers the .odc accessor

        geobox = array.odc.geobox
        if not isinstance(geobox, GeoBox) or set(array.dims) != {"band", *array.odc.spatial_dims}:
            raise FusionError(
                f"from_xarray wants dimensions (band, y, x) on a regular grid, got {array.dims}: "
                "add the dimension 'band', choose one time, and give evenly spaced coordinates."
            )
        if "band" not in array.coords:
            raise FusionError("from_xarray found no band names: assign the coordinate 'band', such as ['red', 'nir'].")
        if day is None and "time" not in array.coords:
            raise FusionError("from_xarray found no coordinate 'time': pass day=date(...).")
        when = day or datetime.fromisoformat(str(array.coords["time"].values.astype("M8[D]"))).date()
        ordered = array.transpose("band", *array.odc.spatial_dims)
        values = np.asarray(ordered.values, np.float32)
        return cls(values, geobox, tuple(str(name) for name in ordered.coords["band"].values), when)


def check_window(window: object) -> None:
    """Raise ValueError unless this is ``[y0:y1, x0:x1]``."""
    if not isinstance(window, tuple) or len(window) != 2 or not all(isinstance(part, slice) for part in window):
        raise ValueError(f"A cut wants two slices, [y0:y1, x0:x1], got {window!r}: use : for a whole side.")


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a raster for reading, with or without georeference.

    Raises
    ------
    FusionError
        If it cannot be opened or, within the ``with``, not be read.
    """
    try:
        with _place_or_none(), rasterio.open(path) as file:
            yield file
    except RasterioError as error:
        raise FusionError(f"Cannot read {Path(path).name}: {error}. Give a raster such as GeoTIFF.") from error


@contextmanager
def _place_or_none() -> Iterator[None]:
    """Pixels without georeference are welcome here, so rasterio need not warn of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def states_no_scale(file: Any) -> bool:
    """Tell whether an open file holds whole numbers and does not say how they become reflectance."""
    bands = zip(file.dtypes, file.scales, file.offsets, strict=True)
    return any(np.issubdtype(kind, np.integer) and scale == 1 and offset == 0 for kind, scale, offset in bands)


def _check_scale(file: Any, path: Any) -> None:
    if states_no_scale(file):
        raise FusionError(
            f"{Path(path).name} holds whole numbers ({file.dtypes[0]}) and does not say how they become reflectance: "
            "pass scale=1e-4 where 10,000 means 1 (or scale=1); in the shell --scale 1e-4."
        )


def _check_size(file: Any, path: Any) -> None:
    if file.count * file.width * file.height > MAX_PIXELS:
        raise FusionError(
            f"{Path(path).name} has {file.count} bands of {file.width} x {file.height} pixels; at most {MAX_PIXELS:,} "
            "numbers are read: cut it."
        )


def _crs(file: Any) -> str | None:
    return None if file.crs is None else file.crs.to_wkt()


def _names(file: Any, bands: Sequence[str] | None, path: Any) -> tuple[str, ...]:
    names = tuple(bands) if bands is not None else tuple(name or "" for name in file.descriptions)
    if len(names) != file.count or not all(names):
        raise FusionError(
            f"{Path(path).name} has {file.count} bands and the names {names}: pass bands=(...) with one name each."
        )
    return names


def _day(file: Any, day: date | None, path: Any) -> date:
    text = file.tags().get("DATE")
    if day is None and text is None:
        raise FusionError(f"{Path(path).name} does not say its day (tag DATE): pass day=date(...).")
    try:
        return day or date.fromisoformat(text)
    except ValueError as error:
        raise FusionError(f"{Path(path).name} has the tag DATE={text!r}, wanted YYYY-MM-DD: pass day=...") from error


def identity_geobox(height: int, width: int) -> GeoBox:
    """Grid of pixels without georeference: no CRS, one unit a pixel, y downwards."""
    return GeoBox((height, width), Affine.identity(), None)
