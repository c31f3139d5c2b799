"""SwinSTFM: windows that keep apart what belongs apart, unmixing attention, and a network of any size."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn

import landscapes
from fusion import fuse, methods
from fusion.methods._sample import Sample
from fusion.methods._swin import Block, Grid, Stage, Unmixing, UnmixingAttention, heads, merged, side, spread
from fusion.training import Options, train
from networks import parameter_count, random_sample

Swinstfm = methods.get("swinstfm")
CPU = torch.device("cpu")


def made(given: Sample, trained: bool = True, **parameters: object) -> tuple:
    """Method and networks; a trained one has a last layer that gives something."""
    torch.manual_seed(3)
    method = Swinstfm(**{"width": 4, **parameters})
    nets = method.networks(len(given.bands), given.ratio)
    if trained:
        nn.init.normal_(nets["generator"].decoder.head.weight, std=0.1)
    return method, nets


def tokens(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def touched(module: nn.Module, x: Tensor, place: tuple[int, int], *more: object) -> list[tuple[int, int]]:
    """Tokens that come out otherwise when one is changed."""
    other = x.clone()
    other[:, *place] = tokens(1, x.shape[-1])
    moved = (module(x, *more) != module(other, *more)).any(-1).any(0)
    return [(int(y), int(column)) for y, column in moved.nonzero()]


def test_it_has_the_papers_parameters() -> None:
    with torch.device("meta"):
        count = parameter_count(Swinstfm().networks(6, 16))
    # without biases of keys and of the norms before them: 64 + 128 + 256 + 512 = 960 channels in two blocks, 512 in one
    assert count == 37_535_290 - 2 * (2 * 960 + 512) - 2 * (960 + 512)
    assert count == pytest.approx(37.5e6, rel=0.01)


@pytest.mark.parametrize("bands", [1, 3, 4, 6])
@pytest.mark.parametrize(("ratio", "rows", "columns"), [(1, 5, 7), (1, 1, 1), (2, 17, 1), (7, 1, 5), (16, 1, 3)])
def test_any_bands_sizes_and_ratios(bands: int, ratio: int, rows: int, columns: int) -> None:
    given = random_sample(bands=bands, rows=rows, columns=columns, ratio=ratio)
    method, nets = made(given)
    before = {name: value.clone() for name, value in vars(given).items() if isinstance(value, Tensor)}
    out = method.forward(nets, given)
    assert out.shape == given.fine[:, 0].shape
    assert torch.isfinite(out).all()
    assert not torch.allclose(out, given.fine[:, 0])
    ((name, loss),) = method.losses(nets, given)
    assert name == "generator"
    assert torch.isfinite(loss)
    assert all(torch.equal(value, getattr(given, name)) for name, value in before.items())


@pytest.mark.parametrize(("width", "window"), [(5, 2), (44, 3), (33, 16)])
def test_any_width_and_window(width: int, window: int) -> None:
    given = random_sample(bands=1, rows=7, columns=5, ratio=3)
    method, nets = made(given, width=width, window=window)
    assert torch.isfinite(method.forward(nets, given)).all()


@pytest.mark.parametrize("base", ["reference", "delta"])
@pytest.mark.parametrize("pairs", [1, 2])
def test_untrained_it_returns_its_base(base: str, pairs: int) -> None:
    given = random_sample(pairs=pairs)
    method, nets = made(given, trained=False, base=base)
    got, wanted = method.forward(nets, given), given.start_of_all(base)
    assert torch.equal(got, wanted)


def test_the_seed_decides_and_nothing_else() -> None:
    given = random_sample()
    (method, first), (_, again) = made(given), made(given)
    assert torch.equal(method.forward(first, given), method.forward(again, given))
    torch.manual_seed(99)
    other = method.networks(2, 4)
    nn.init.normal_(other["generator"].decoder.head.weight, std=0.1)
    assert not torch.allclose(method.forward(first, given), method.forward(other, given))


def test_images_of_a_batch_do_not_mix() -> None:
    given = random_sample(rows=19, columns=33, ratio=2)  # windows with masks, more than one image
    method, nets = made(given)
    alone = [Sample(**{**vars(given), **only(given, k)}) for k in range(2)]
    each = torch.cat([method.forward(nets, one) for one in alone])
    torch.testing.assert_close(method.forward(nets, given), each)


def only(given: Sample, k: int) -> dict[str, Tensor]:
    return {name: getattr(given, name)[k : k + 1] for name in ("fine", "coarse", "target", "valid", "truth", "known")}


def test_every_parameter_learns() -> None:
    # 66 pixels: two tokens on the deepest level, so that it attends
    given = random_sample(rows=33, columns=17, ratio=2, n=1)
    method, nets = made(given)
    nets.double()
    wide = {name: value.double() for name, value in vars(given).items() if isinstance(value, Tensor)}
    ((_, loss),) = method.losses(nets, replace(given, **wide))
    loss.backward()
    still = [name for name, p in nets.named_parameters() if p.grad is None or float(p.grad.abs().max()) < 1e-12]
    assert still == []


@pytest.mark.parametrize(("height", "width", "most"), [(1, 1, 8), (9, 16, 8), (18, 5, 8), (36, 37, 8), (7, 3, 2)])
@pytest.mark.parametrize("shifted", [False, True])
def test_windows_joined_are_what_was_cut(height: int, width: int, most: int, shifted: bool) -> None:
    grid, x = Grid.of(height, width, most, CPU), tokens(2, height, width, 3)
    cut = grid.cut(x, shifted)
    assert cut.shape == (2 * grid.count[0] * grid.count[1], grid.window[0] * grid.window[1], 3)
    assert max(grid.window) <= most
    assert torch.equal(grid.join(cut, shifted), x)


def test_windows_are_as_even_as_their_number_allows() -> None:
    assert [side(size, 8) for size in (1, 7, 8, 9, 16, 18, 36, 144)] == [1, 7, 8, 5, 8, 6, 8, 8]


def test_a_token_matters_in_its_window_alone() -> None:
    grid, x = Grid.of(12, 8, 4, CPU), tokens(1, 12, 8, 6)
    block = Block(6, 4)
    assert touched(block, x, (5, 2), grid, False) == list(product(range(4, 8), range(4)))
    assert touched(block, x, (5, 2), grid, True) == list(product(range(2, 6), range(2, 6)))


@pytest.mark.parametrize(
    ("place", "rows", "columns"),
    [
        ((0, 0), range(2), range(2)),
        ((11, 7), range(10, 12), range(6, 8)),
        ((0, 4), range(2), range(2, 6)),
        ((6, 0), range(6, 10), range(2)),
    ],
)
def test_tokens_of_opposite_edges_are_kept_apart(place: tuple[int, int], rows: range, columns: range) -> None:
    # Windows of 4, shifted by 2: the last one holds tokens 10 and 11 and, from the other end, 0 and 1.
    grid, x = Grid.of(12, 8, 4, CPU), tokens(1, 12, 8, 6)
    assert touched(Block(6, 4), x, place, grid, True) == list(product(rows, columns))


def test_two_blocks_reach_one_window_and_a_half() -> None:
    grid, x = Grid.of(16, 16, 4, CPU), tokens(1, 16, 16, 6)
    assert touched(Stage(6, 2, 4), x, (5, 5), grid) == list(product(range(2, 10), range(2, 10)))


def test_added_tokens_are_seen_by_none() -> None:
    x, block = tokens(1, 9, 3, 6), Block(6, 8)  # windows of 5 and 4 tokens, the latter made whole by one
    whole = block(x, Grid.of(9, 3, 8, CPU), False)
    part = block(x[:, 5:].contiguous(), Grid.of(4, 3, 8, CPU), False)
    torch.testing.assert_close(whole[:, 5:], part)


def test_positions_are_relative_and_of_windows_of_any_size() -> None:
    grid = Grid.of(3, 2, 8, CPU)
    below = grid.index[2, 0]  # token (1, 0) as seen from (0, 0): tokens are in rows of two
    assert below == grid.index[5, 3] == grid.index[4, 2] == Grid.of(8, 8, 8, CPU).index[8, 0]
    assert len(grid.index.unique()) == 5 * 3
    assert Grid.of(8, 8, 8, CPU).index.unique().tolist() == list(range(15 * 15))


def test_unmixing_is_two_softmaxes_multiplied() -> None:
    layer = UnmixingAttention(64, 4).double()
    change, before, fine, after = (part.double() for part in tokens(4, 3, 16, 64))
    mask = layer.positions(Grid.of(4, 4, 4, CPU), False, 3)
    query = layer.query(before).reshape(3, 16, 2, 2, 32)  # head, kind, channel
    keys = [layer.key_fine(fine).reshape(3, 16, 2, 32), layer.key_after(after).reshape(3, 16, 2, 32)]
    product_of = torch.ones(3, 2, 16, 16, dtype=torch.double)
    for kind, key in enumerate(keys):
        likeness = torch.einsum("wihc,wjhc->whij", query[:, :, :, kind], key) / 32**0.5 + mask / 2
        product_of = product_of * likeness.softmax(-1)
    share = product_of / product_of.sum(-1, keepdim=True)
    mixed = torch.einsum("whij,wjhc->wihc", share, layer.value(change).reshape(3, 16, 2, 32))
    wanted = layer.out(mixed.reshape(3, 16, 64))
    torch.testing.assert_close(layer(change, before, fine, after, mask), wanted)


def test_unmixing_takes_from_the_window_alone() -> None:
    grid, (before, fine, after) = Grid.of(8, 12, 4, CPU), tokens(3, 1, 8, 12, 6)
    layer = Unmixing(6, 1, 4)
    for x, rest in (
        (before, lambda x: layer(x, fine, after, grid)),
        (fine, lambda x: layer(before, x, after, grid)),
        (after, lambda x: layer(before, fine, x, grid)),
    ):
        assert touched(rest, x, (1, 9)) == list(product(range(4), range(8, 12)))


def test_merging_puts_neighbours_together() -> None:
    x = torch.arange(24.0).reshape(1, 4, 6, 1)
    assert merged(x)[0, 1, 2].tolist() == [16, 17, 22, 23]
    y = tokens(2, 4, 6, 3)
    assert torch.equal(spread(merged(y)), y)


def test_heads_divide_the_channels() -> None:
    assert [heads(c) for c in (4, 32, 44, 64, 88, 176, 512)] == [1, 1, 1, 2, 2, 4, 16]


def test_it_learns_a_patch() -> None:
    given = random_sample(bands=1, rows=4, columns=6, n=1, seed=8)
    method, nets = made(given, trained=False, width=8)
    optimiser = torch.optim.Adam(nets.parameters(), lr=2e-3)
    for _ in range(80):
        ((_, loss),) = method.losses(nets, given)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        error = float((method.forward(nets, given) - given.truth).std())
    assert error < 0.75 * float((given.truth - given.fine[:, 0]).std())  # a level alone would bring nothing


def test_trained_and_run(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FUSION_CHECKPOINTS", str(tmp_path))
    pairs = [landscapes.pair(offset, rows=8, columns=9) for offset in (-40, 0, 25)]
    method = Swinstfm(width=4, window=4)
    path = train(method, pairs, epochs=2, options=Options(batch=2, patch=32, steps=2))
    problem = landscapes.stack((-40, 25), rows=8, columns=9)
    out = fuse(problem, replace(method, checkpoint=path.stem))
    assert out.data.shape == problem.fine.shape[1:]
    assert abs(out.data - problem.fine.mean(0)).max() < 0.5
