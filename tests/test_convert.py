"""Published weights: our network gives what Keras' layers give, and files of strangers are only read, never trusted.

Keras' layers are written out in numpy here, channels last and in float64, from their definitions: a convolution with
padding "same" and stride 1 has as many zeros on either side; a transposed one with stride 2 and a kernel of 3 is the
gradient of one whose padding lies at the end, so that pixel i goes to pixels 2i, 2i + 1 and 2i + 2.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from fusion import FusionError, checkpoints, convert, fuse, methods
from fusion.methods._networks import build
from landscapes import stack

# The published network, from the settings that lie beside the weights: layers in their order, activations after them.
COARSE = (
    ("sequential_1/conv2d_1", "relu"),
    ("sequential_1/conv2d_2", "relu"),
    ("sequential_1/conv2d_transpose_1", "linear"),
    ("sequential_1/conv2d_transpose_2", "linear"),
    ("sequential_1/conv2d_transpose_3", "linear"),
    ("sequential_1/conv2d_3", "relu"),
)
FINE = (
    ("sequential_2/conv2d_4", "relu"),
    ("sequential_2/conv2d_5", "relu"),
    ("pool", "linear"),
    ("sequential_2/conv2d_6", "relu"),
    ("sequential_2/conv2d_7", "relu"),
)
HEAD = (
    ("conv2d_transpose_4/conv2d_transpose_4", "relu"),
    ("dense_1/dense_1", "relu"),
    ("dense_2/dense_2", "linear"),
)
CHANNELS = {
    "sequential_1/conv2d_1": (1, 32), "sequential_1/conv2d_2": (32, 64),
    "sequential_1/conv2d_transpose_1": (64, 64), "sequential_1/conv2d_transpose_2": (64, 64),
    "sequential_1/conv2d_transpose_3": (64, 64), "sequential_1/conv2d_3": (64, 128),
    "sequential_2/conv2d_4": (1, 32), "sequential_2/conv2d_5": (32, 64), "sequential_2/conv2d_6": (64, 64),
    "sequential_2/conv2d_7": (64, 128), "conv2d_transpose_4/conv2d_transpose_4": (128, 64),
    "dense_1/dense_1": (64, 32), "dense_2/dense_2": (32, 1),
}  # fmt: skip
FILES = {"green": "dcstfn_green_ep0052.hdf5", "red": "dcstfn_red_ep0060.hdf5", "nir": "dcstfn_nir_ep0060.hdf5"}

Arrays = dict[str, np.ndarray]


def arrays(seed: int = 0) -> Arrays:
    """Random weights with the paths and shapes of the published ones."""
    rng = np.random.default_rng(seed)
    out = {}
    for name, (inputs, outputs) in CHANNELS.items():
        shape = (inputs, outputs) if "dense" in name else (3, 3, inputs, outputs)
        shape = (3, 3, outputs, inputs) if "transpose" in name else shape
        out[f"{name}/kernel:0"] = rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape).astype(np.float32)
        out[f"{name}/bias:0"] = rng.normal(0, 200, outputs).astype(np.float32)
    return out


def written(path: Path, content: Arrays) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            file[name] = value
        file.attrs["keras_version"] = "2.1.2"
    return path


@pytest.fixture(autouse=True)
def registry(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.setattr(checkpoints, "_bundled_folder", lambda: None)


@pytest.fixture
def made(tmp_path) -> Path:
    return written(tmp_path / "made.hdf5", arrays())


def published(band: str) -> Path:
    """A published file; the test is skipped where there is none."""
    folder = os.environ.get("FUSION_TEST_WEIGHTS")
    if not folder:
        pytest.skip("FUSION_TEST_WEIGHTS is not set: name the folder of the published weights to run this test")
    path = Path(folder) / FILES[band]
    if not path.is_file():
        pytest.fail(f"FUSION_TEST_WEIGHTS={folder} has no {path.name}")
    return path


# Keras in numpy, images (y, x, channel)


def conv(image: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    wide = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    out = np.zeros((height, width, kernel.shape[3])) + bias
    for i in range(3):
        for j in range(3):
            out += wide[i : i + height, j : j + width] @ kernel[i, j]
    return out


def conv_transpose(image: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    out = np.zeros((2 * height + 1, 2 * width + 1, kernel.shape[2]))
    for i in range(3):
        for j in range(3):
            out[i : i + 2 * height : 2, j : j + 2 * width : 2] += image @ kernel[i, j].T
    return out[: 2 * height, : 2 * width] + bias


def pool(image: np.ndarray) -> np.ndarray:
    height, width, channels = image.shape
    return image.reshape(height // 2, 2, width // 2, 2, channels).max(axis=(1, 3))


def keras(name: str, activation: str, image: np.ndarray, weights: Arrays) -> np.ndarray:
    """One layer of the published network and its activation."""
    if name == "pool":
        return pool(image)
    kernel, bias = (weights[f"{name}/{part}:0"].astype(float) for part in ("kernel", "bias"))
    if "dense" in name:
        out = image @ kernel + bias
    else:
        out = (conv_transpose if "transpose" in name else conv)(image, kernel, bias)
    return np.maximum(out, 0) if activation == "relu" else out


def all_of(layers, image: np.ndarray, weights: Arrays) -> np.ndarray:
    for layer in layers:
        image = keras(*layer, image, weights)
    return image


def test_the_transposed_convolution_of_this_test_is_the_gradient_of_a_strided_one():
    # <conv(x, stride 2, padding at the end), y> = <x, transposed(y)>, for any x and y.
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(3, 3, 4, 5))  # forwards: 4 channels in, 5 out
    x, y = rng.normal(size=(6, 8, 4)), rng.normal(size=(3, 4, 5))
    wide = np.pad(x, ((0, 1), (0, 1), (0, 0)))
    forwards = sum(wide[i : i + 6 : 2, j : j + 8 : 2] @ kernel[i, j] for i in range(3) for j in range(3))
    np.testing.assert_allclose((forwards * y).sum(), (x * conv_transpose(y, kernel, np.zeros(4))).sum())


def images(seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fine image, its coarse one and that of the target day as Keras saw them: reflectance x 10 000."""
    rng = np.random.default_rng(seed)
    return rng.uniform(200, 4000, (32, 48, 1)), rng.uniform(200, 4000, (2, 3, 1)), rng.uniform(200, 4000, (2, 3, 1))


def network(path: Path):
    return build(checkpoints.read(path.stem))[1]["generator"].nets[0].double()


def ours(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1)[None] / 1024)


def theirs(image: torch.Tensor) -> np.ndarray:
    return image.detach().numpy()[0].transpose(1, 2, 0) * 1024


def same_layer_by_layer(path: Path, band: str = "green") -> None:
    """Compare every layer of each branch, every one fed with what Keras would feed it."""
    with h5py.File(path) as file:
        weights = {
            f"{name}/{part}:0": file[f"{name}/{part}:0"][...] for name in CHANNELS for part in ("kernel", "bias")
        }
    net = network(convert.dcstfn({band: path}))
    fine, coarse, target = images()
    sums = all_of(FINE, fine, weights) - all_of(COARSE, coarse, weights) + all_of(COARSE, target, weights)
    for branch, layers, image in ((net.coarse, COARSE, target), (net.fine, FINE, fine), (net.head, HEAD, sums)):
        steps = [step for step in branch if not isinstance(step, torch.nn.ReLU)]
        assert len(steps) == len(layers)
        for step, (name, activation) in zip(steps, layers, strict=True):
            got, wanted = step(ours(image)), keras(name, activation, image, weights)
            got = theirs(got.relu() if activation == "relu" else got)
            assert wanted.std() > 0
            np.testing.assert_allclose(got, wanted, atol=1e-8 * np.abs(wanted).max(), err_msg=name)
            image = wanted
        at = [i for i, step in enumerate(branch) if isinstance(step, torch.nn.ReLU)]
        relu = [i for i, (_, activation) in enumerate(layers) if activation == "relu"]
        assert [i - k for k, i in enumerate(at)] == [i + 1 for i in relu]  # activations after the right layers
    got = theirs(net(*(ours(image) for image in (fine, coarse, target))))
    np.testing.assert_allclose(got, image, atol=1e-8 * np.abs(image).max())


def test_a_made_file_layer_by_layer(made):
    same_layer_by_layer(made)


@pytest.mark.parametrize("band", FILES)
def test_the_published_weights_layer_by_layer(band):
    same_layer_by_layer(published(band), band)


def test_through_the_whole_method_in_reflectance(tmp_path):
    # Two bands, given in the other order than the stack has them.
    weights = {band: arrays(seed) for seed, band in enumerate(("red", "green"))}
    path = convert.dcstfn({band: written(tmp_path / f"{band}.hdf5", w) for band, w in weights.items()})
    problem = stack((-40,), rows=9, columns=9, ratio=16).select([0])
    problem = replace(problem, bands=("green", "red"))
    got = fuse(problem, methods.get("dcstfn")(checkpoint=path.stem)).data
    for index, band in enumerate(problem.bands):
        fine, coarse, target = (
            image[..., None] * 1e4
            for image in (problem.fine[0, index], problem.coarse[0, index], problem.target[index])
        )
        w = weights[band]
        sums = all_of(FINE, fine, w) - all_of(COARSE, coarse, w) + all_of(COARSE, target, w)
        wanted = all_of(HEAD, sums, w)[..., 0] / 1e4
        inner = (slice(64, 80), slice(64, 80))  # beyond, the edge of the scene is seen
        np.testing.assert_allclose(got[index][inner], wanted[inner], atol=1e-4 * np.abs(wanted).max())


def test_the_checkpoint_says_what_it_is(made):
    data = made.read_bytes()
    path = convert.dcstfn({"red": made, "blue": data})
    about = checkpoints.read(path.stem)
    assert (about.method, about.bands, about.ratios) == ("dcstfn", ("red", "blue"), (16, 16))
    assert about.mean == (0, 0) and about.scale == pytest.approx((0.1024, 0.1024))
    assert about.parameters["head"] == "image" and about.parameters["per_band"] is True
    assert about.provenance["converted_from"]["blue"] == {"sha256": hashlib.sha256(data).hexdigest()}
    assert sum(value.size for value in checkpoints.arrays(path.stem).values()) == 2 * 408_961
    assert "ratio 16" in about.misfit(("red", "blue"), 8)


def test_published_files_are_known_by_their_content():
    path = convert.dcstfn({band: published(band) for band in FILES})
    origin = checkpoints.read(path.stem).provenance["converted_from"]
    for band in FILES:
        assert (origin[band]["licence"], origin[band]["trained_on"]) == ("Apache-2.0", band)
        assert origin[band]["source"] == "https://github.com/theonegis/dcstfn"
        assert origin[band]["sha256"] == hashlib.sha256(published(band).read_bytes()).hexdigest()
    with pytest.raises(FusionError, match="wants to be that of red, got the published one of green"):
        convert.dcstfn({"red": published("green")})
    assert convert.dcstfn({"blue": published("green")}).exists()  # no band has weights of its own for blue


# Files that are not what they should be


def refused(file: Path | bytes, *words: str) -> None:
    with pytest.raises(FusionError) as caught:
        convert.dcstfn({"green": file})
    for word in ("for green wants", "got", "Give a file", *words):
        assert word in str(caught.value)
    assert checkpoints.names() == ()


def test_no_file():
    with pytest.raises(FusionError, match="one file of weights per band, got none"):
        convert.dcstfn({})


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FusionError, match="none.hdf5 for green cannot be read: No such file"):
        convert.dcstfn({"green": tmp_path / "none.hdf5"})


@pytest.mark.parametrize("data", [b"", b"\x80\x04\x95pickle", b"PK\x03\x04 a torch file"])
def test_a_file_of_another_kind(data):
    refused(data, "HDF5 file of Keras", repr(data[:8]))


@pytest.mark.parametrize("share", [0.001, 0.3, 0.999])
def test_a_file_that_was_cut(made, share):
    data = made.read_bytes()
    refused(data[: int(share * len(data))], "damaged or cut")


def test_a_file_with_any_byte_changed_is_read_or_refused(made):
    data, rng = made.read_bytes(), np.random.default_rng(0)
    layout = np.flatnonzero(np.frombuffer(data[:4000], np.uint8))  # where the tree of names begins
    for place in rng.choice(layout, 60):
        other = bytearray(data)
        other[place] = rng.integers(256)
        try:
            convert.dcstfn({"green": bytes(other)})
        except FusionError as error:
            assert "got" in str(error)


def test_a_file_that_is_too_large(made, monkeypatch):
    monkeypatch.setattr(convert, "MAX_BYTES", 2**20)
    refused(made, "at most 1 MB, got 2 MB")
    refused(made.read_bytes(), "at most 1 MB")


def changed(path: Path, change: Callable[[h5py.File], None]) -> Path:
    written(path, arrays())
    with h5py.File(path, "a") as file:
        change(file)
    return path


KERNEL = "sequential_2/conv2d_4/kernel:0"


def put(value=None, **how):
    """Replace the first kernel of the fine branch."""

    def change(file: h5py.File) -> None:
        del file[KERNEL]
        if value is not None or how:
            file.create_dataset(KERNEL, data=value, **how)

    return change


def linked(link):
    def change(file: h5py.File) -> None:
        del file[KERNEL]
        file[KERNEL] = link

    return change


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 3, 1, 32), np.float32)
    layout[:] = h5py.VirtualSource("other.hdf5", "secret", (3, 3, 1, 32))
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


GOOD = np.ones((3, 3, 1, 32), np.float32)
BROKEN = {
    "another layer": (put(), f"array {KERNEL} in the file itself, got conv2d_transpose_4, dense_1"),
    "a band more": (put(np.ones((3, 3, 2, 32), np.float32)), "as (3, 3, 1, 32) numbers, got (3, 3, 2, 32) float32"),
    "whole numbers": (put(np.ones((3, 3, 1, 32), int)), "got (3, 3, 1, 32) int64"),
    "text": (put(np.full((3, 3, 1, 32), b"0.1")), "got (3, 3, 1, 32) |S3"),
    "huge": (put(shape=(10**6, 10**6), dtype="f4", chunks=(1000, 1000)), "got (1000000, 1000000)"),
    "not finite": (put(GOOD * np.nan), "finite weights"),
    "packed": (put(GOOD, compression="gzip"), "plain in the file itself"),
    "in another file": (
        put(shape=(3, 3, 1, 32), dtype="f4", external=[("/etc/hostname", 0, 1152)]),
        "plain in the file itself",
    ),
    "in a virtual place": (virtual, "plain in the file itself"),
    "a link": (linked(h5py.SoftLink("/sequential_2/conv2d_5/kernel:0")), "in the file itself"),
    "a link to another file": (linked(h5py.ExternalLink("other.hdf5", "/secret")), "in the file itself"),
    "a folder": (lambda file: (file.pop(KERNEL), file.create_group(KERNEL)), "in the file itself"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_with_other_arrays(tmp_path, kind):
    change, words = BROKEN[kind]
    refused(changed(tmp_path / "other.hdf5", change), words)


def test_attributes_are_never_read(tmp_path, monkeypatch):
    def change(file: h5py.File) -> None:
        file.attrs["layer_names"] = ["__import__('os').abort()"]
        file["sequential_1"].attrs["weight_names"] = ["../../secret"]

    path = changed(tmp_path / "named.hdf5", change)
    monkeypatch.setattr(h5py.AttributeManager, "__getitem__", lambda *_: pytest.fail("an attribute was read"))
    assert convert.dcstfn({"green": path}).exists()
