"""Convert published weights of others into checkpoints. Nothing is unpickled, and nothing in a file is evaluated.

An HDF5 file can point at other files, claim huge arrays and ask for plug-ins. So only arrays of known names, shapes and
types are read, which lie in the file itself and are not packed; attributes, where Keras keeps its settings, never are.
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from . import checkpoints
from .checkpoints import Checkpoint
from .errors import FusionError

MAX_BYTES = 32 * 2**20  # of a file; a published one has 1.7 MB
SIGNATURE = b"\x89HDF\r\n\x1a\n"
SOURCE = "https://github.com/theonegis/dcstfn"
LICENCE = "Apache-2.0"
PAPER = "doi:10.3390/rs10071066"
ADVICE = f"Give a file of weights of DCSTFN as {SOURCE} publishes them (results, ep0052.hdf5 and the like)."

# The published networks see and give reflectance x 10 000. Convolutions, ReLU and pooling keep a factor, so dividing
# the images and all biases by one divides the output by it; a power of two changes no digit. Images near 1 suit further
# training and half precision, which ends at 65 504: features of an image of 0.5 reach 36 000 in the published unit.
UNIT = 1e-4  # reflectance
FACTOR = 1024

# sha256 of the published files, and their band.
PUBLISHED = {
    "b56d3915ea98901bd6f83eb7b998e5691c725e27806bae0ba9aa706ab238b865": "green",
    "2e310500a13eca63dc84812ca90a618f5f2c5902ed57ce9b32c598f9fafc609c": "red",
    "4f7cee3df8c3b21e42f7f367639607cf7d6b616c90cb5fb1997157bd3596c04f": "nir",
}


class Layer(NamedTuple):
    """One layer: where its arrays lie in the file, and the shape of its kernel there."""

    path: str
    kernel: tuple[int, ...]  # (y, x, in, out), of transposed convolutions (y, x, out, in), of dense layers (in, out)
    bias: int


# By the layer's name in our network.
LAYERS = {
    "coarse.0": Layer("sequential_1/conv2d_1", (3, 3, 1, 32), 32),
    "coarse.2": Layer("sequential_1/conv2d_2", (3, 3, 32, 64), 64),
    "coarse.4": Layer("sequential_1/conv2d_transpose_1", (3, 3, 64, 64), 64),
    "coarse.5": Layer("sequential_1/conv2d_transpose_2", (3, 3, 64, 64), 64),
    "coarse.6": Layer("sequential_1/conv2d_transpose_3", (3, 3, 64, 64), 64),
    "coarse.7": Layer("sequential_1/conv2d_3", (3, 3, 64, 128), 128),
    "fine.0": Layer("sequential_2/conv2d_4", (3, 3, 1, 32), 32),
    "fine.2": Layer("sequential_2/conv2d_5", (3, 3, 32, 64), 64),
    "fine.5": Layer("sequential_2/conv2d_6", (3, 3, 64, 64), 64),
    "fine.7": Layer("sequential_2/conv2d_7", (3, 3, 64, 128), 128),
    "head.0": Layer("conv2d_transpose_4/conv2d_transpose_4", (3, 3, 64, 128), 64),
    "head.2": Layer("dense_1/dense_1", (64, 32), 32),
    "head.4": Layer("dense_2/dense_2", (32, 1), 1),
}


def dcstfn(files: Mapping[str, Path | bytes], *, place: Path | None = None) -> Path:
    """Convert weights of DCSTFN, one Keras 2.1 HDF5 file per band, into one checkpoint for ratio 16.

    Parameters
    ----------
    files : mapping of str to Path or bytes
        File, or its content, by the name of the band that it is to predict, in the order of the channels.
    place : Path, optional
        Folder to write to; by default that of :func:`fusion.checkpoints.folder`.

    Returns
    -------
    pathlib.Path
        The checkpoint; ``methods.get("dcstfn")(checkpoint=path.stem)`` runs with it.

    Raises
    ------
    FusionError
        If there is no file, one is not such weights (another kind, damaged, too large, other layers or shapes), or a
        published file is given for another one's band.

    References
    ----------
    Tan, Yue, Di & Tang 2018, doi:10.3390/rs10071066. The published files have the licence Apache-2.0.

    Examples
    --------
    >>> from pathlib import Path
    >>> dcstfn({"green": Path("ep0052.hdf5")})  # doctest: +SKIP
    PosixPath('.../checkpoints/dcstfn-1b-r16-1a2b3c4d5e.safetensors')
    """
    if not files:
        raise FusionError(f"Conversion wants one file of weights per band, got none. {ADVICE}")
    weights, origin = {}, {}
    for index, (band, file) in enumerate(files.items()):
        name = _name(band, file)
        data = _content(file, name)
        origin[band] = _origin(data, band, name)
        for key, value in _weights(data, name).items():
            weights[f"generator.nets.{index}.{key}"] = value
    about = Checkpoint(
        method="dcstfn",
        parameters={"head": "image", "per_band": True, "width": 32, "base": "reference", "checkpoint": ""},
        bands=tuple(files),
        ratios=(16, 16),
        mean=(0.0,) * len(files),
        scale=(UNIT * FACTOR,) * len(files),
        title=f"DCSTFN, converted from Keras: {', '.join(files)}",
        provenance={"converted_from": origin, "paper": PAPER},
    )
    return checkpoints.save(about, weights, place)


def _name(band: str, file: Path | bytes) -> str:
    return f"The file for {band}" if isinstance(file, bytes) else f"The file {Path(file).name} for {band}"


def _content(file: Path | bytes, name: str) -> bytes:
    """Whole file, if it is not too large."""
    try:
        size = len(file) if isinstance(file, bytes) else Path(file).stat().st_size
        if size > MAX_BYTES:
            raise FusionError(f"{name} wants at most {MAX_BYTES // 2**20} MB, got {size / 2**20:.0f} MB. {ADVICE}")
        return file if isinstance(file, bytes) else Path(file).read_bytes()
    except OSError as error:
        raise FusionError(f"{name} cannot be read: {error.strerror}. Look at its path and permissions.") from error


def _origin(data: bytes, band: str, name: str) -> dict[str, str]:
    """What is known of a file, for the checkpoint: source and licence only of the very files that were published."""
    digest = hashlib.sha256(data).hexdigest()
    trained = PUBLISHED.get(digest)
    if trained is None:
        return {"sha256": digest}
    if trained != band and band in PUBLISHED.values():
        raise FusionError(
            f"{name} wants to be that of {band}, got the published one of {trained}: give each file for its own band."
        )
    return {"sha256": digest, "source": SOURCE, "licence": LICENCE, "trained_on": trained}


def _weights(data: bytes, name: str) -> dict[str, np.ndarray]:
    """Weights of one band's network by our names."""
    if not data.startswith(SIGNATURE):
        raise FusionError(
            f"{name} wants to be an HDF5 file of Keras, got one that begins with {data[:8]!r}: other kinds are never "
            f"opened. {ADVICE}"
        )
    out = {}
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            for key, layer in LAYERS.items():
                kernel = _array(file, f"{layer.path}/kernel:0", layer.kernel, name)
                out[f"{key}.weight"] = _ours(kernel)
                out[f"{key}.bias"] = _array(file, f"{layer.path}/bias:0", (layer.bias,), name) / np.float32(FACTOR)
    except (
        OSError,
        RuntimeError,
        LookupError,
        ValueError,
        TypeError,
        OverflowError,
    ) as error:  # what h5py raises for broken files
        if isinstance(error, FusionError):
            raise
        raise FusionError(f"{name} wants to be a whole HDF5 file, got a damaged or cut one ({error}). {ADVICE}") from (
            error
        )
    return out


def _ours(kernel: np.ndarray) -> np.ndarray:
    """Turn a kernel of Keras into one of torch: (out, in, y, x), and (in, out, y, x) of transposed convolutions.

    Keras has the last two axes of transposed ones the other way round too. A dense layer is a convolution of 1 x 1.
    """
    kernel = kernel.reshape((1,) * (4 - kernel.ndim) + kernel.shape)
    return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))


def _array(file: h5py.File, path: str, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Read one array, after looking at what it is and where it lies."""
    found = _held(file, path)
    if found is None:
        raise FusionError(
            f"{name} wants an array {path} in the file itself, got {', '.join(sorted(file)[:12]) or 'nothing'}. "
            f"{ADVICE}"
        )
    if found.shape != shape or found.dtype.kind != "f" or found.dtype.itemsize > 8:
        raise FusionError(f"{name} wants {path} as {shape} numbers, got {found.shape} {found.dtype}. {ADVICE}")
    if found.external or found.is_virtual or found.id.get_create_plist().get_nfilters():
        raise FusionError(f"{name} wants {path} plain in the file itself, got it packed or in another file. {ADVICE}")
    value: np.ndarray = found[...].astype(np.float32)
    if not np.isfinite(value).all():
        raise FusionError(f"{name} wants finite weights, got {path} with others. {ADVICE}")
    return value


def _held(file: h5py.File, path: str) -> h5py.Dataset | None:
    """The array of a path if every step of it lies in this file: links, soft or to other files, are not followed."""
    here = file
    for part in path.split("/"):
        if not isinstance(here, h5py.Group) or not isinstance(here.get(part, getlink=True), h5py.HardLink):
            return None
        here = here[part]
    return here if isinstance(here, h5py.Dataset) else None
