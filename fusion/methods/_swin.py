"""Windows of tokens and attention inside them, plain and unmixing. Tokens are ``(n, y, x, channel)``, contiguous.

A block works in its windows from end to end, so that tokens are moved once before it and once after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

HEAD = 32  # channels of an attention head at least


@dataclass(frozen=True, eq=False)
class Grid:
    """How tokens are cut into windows: per axis as few as their largest side allows, and alike.

    Tokens that make the last windows whole are zero. Shifted windows begin half a window later, and those at the end
    take the first tokens of the axis in; an axis of one window is not shifted.
    """

    size: tuple[int, int]  # tokens along y and x
    window: tuple[int, int]  # tokens of a window along y and x
    index: Tensor  # (token, token): row of the table of relative positions
    apart: tuple[Tensor | None, Tensor | None]  # (window, token, token), unshifted and shifted; -inf: not to be mixed

    @classmethod
    def of(cls, height: int, width: int, most: int, device: torch.device) -> "Grid":
        """Lay windows of at most `most` tokens along a side."""
        size, window = (height, width), (side(height, most), side(width, most))
        both = (_apart(size, window, shifted=False, device=device), _apart(size, window, shifted=True, device=device))
        return cls(size, window, _relative(window, most, device), both)

    @property
    def count(self) -> tuple[int, int]:
        """Windows along y and x."""
        return -(-self.size[0] // self.window[0]), -(-self.size[1] // self.window[1])

    def cut(self, tokens: Tensor, shifted: bool) -> Tensor:
        """Cut ``(n, y, x, channel)`` into ``(n * window, token, channel)``."""
        (rows, columns), (height, width) = self.count, self.window
        more = (rows * height - self.size[0], columns * width - self.size[1])
        if any(more):
            tokens = functional.pad(tokens, (0, 0, 0, more[1], 0, more[0]))
        if shifted:
            tokens = _rolled(tokens, -offset(self.size[0], height), -offset(self.size[1], width))
        parts = tokens.reshape(-1, rows, height, columns, width, tokens.shape[-1])
        return parts.transpose(2, 3).reshape(-1, height * width, tokens.shape[-1])

    def join(self, windows: Tensor, shifted: bool) -> Tensor:
        """Undo `cut`."""
        (rows, columns), (height, width) = self.count, self.window
        parts = windows.reshape(-1, rows, columns, height, width, windows.shape[-1]).transpose(2, 3)
        tokens = parts.reshape(-1, rows * height, columns * width, windows.shape[-1])
        if shifted:
            tokens = _rolled(tokens, offset(self.size[0], height), offset(self.size[1], width))
        return tokens[:, : self.size[0], : self.size[1]].contiguous()


def side(size: int, most: int) -> int:
    """Side of the windows along an axis of `size` tokens: as even as their least number allows."""
    return -(-size // -(-size // most))


def offset(size: int, window: int) -> int:
    """How much later shifted windows begin."""
    return window // 2 if size > window else 0


class Positions(nn.Module):
    """What is added to the likeness of two tokens: by how they lie to each other, and -inf where kept apart."""

    def __init__(self, heads: int, window: int) -> None:
        super().__init__()
        self.table = nn.Parameter(nn.init.trunc_normal_(torch.empty((2 * window - 1) ** 2, heads), std=0.02))

    def forward(self, grid: Grid, shifted: bool, count: int) -> Tensor:
        """Give ``(1 or count, head, token, token)`` for `count` windows."""
        bias = self.table[grid.index].permute(2, 0, 1)[None]
        apart = grid.apart[shifted]
        if apart is None:
            return bias
        mask = bias + apart[:, None]
        return mask.repeat(count // len(mask), 1, 1, 1)


class Attention(nn.Module):
    """Attention of the tokens of a window among each other."""

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.heads = heads(channels)
        self.positions = Positions(self.heads, window)
        self.parts = nn.Linear(channels, 3 * channels)  # query, key and value
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, grid: Grid, shifted: bool) -> Tensor:
        """Mix ``(window, token, channel)``."""
        query, key, value = self.parts(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, self.positions(grid, shifted, len(x)))
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class UnmixingAttention(nn.Module):
    """Attention that gathers the coarse change from tokens that are alike in the fine and in the coarse images.

    Two softmaxes multiplied and normalised are one softmax of the sum, so that queries and keys of both are put end to
    end.
    """

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.heads = heads(channels)
        self.positions = Positions(self.heads, window)
        self.query = nn.Linear(channels, 2 * channels)
        self.key_fine = nn.Linear(channels, channels, bias=False)  # what all keys share cancels out in a softmax
        self.key_after = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, change: Tensor, before: Tensor, fine: Tensor, after: Tensor, mask: Tensor) -> Tensor:
        """Mix the change, ``(window, token, channel)``."""
        shape = (self.heads, change.shape[-1] // self.heads)
        query = self.query(before).unflatten(-1, (shape[0], 2 * shape[1]))
        key = torch.cat([self.key_fine(fine).unflatten(-1, shape), self.key_after(after).unflatten(-1, shape)], -1)
        value = self.value(change).unflatten(-1, shape)
        mixed = functional.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), mask, scale=shape[1] ** -0.5
        )
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """Attention in windows, then a perceptron per token; each is added to its input."""

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = Attention(channels, window)
        self.perceptron = perceptron(channels)

    def forward(self, tokens: Tensor, grid: Grid, shifted: bool) -> Tensor:
        """Mix ``(n, y, x, channel)``."""
        x = grid.cut(tokens, shifted)
        x = x + self.attention(self.norm(x), grid, shifted)
        return grid.join(x + self.perceptron(x), shifted)


class Stage(nn.Module):
    """Blocks, every other one shifted."""

    def __init__(self, channels: int, depth: int, window: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(channels, window) for _ in range(depth)])

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Mix ``(n, y, x, channel)``."""
        for k, block in enumerate(self.blocks):
            tokens = block(tokens, grid, k % 2 == 1)
        return tokens


class UnmixingBlock(nn.Module):
    """As `Block`, with unmixing attention."""

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = UnmixingAttention(channels, window)
        self.perceptron = perceptron(channels)

    def forward(self, change: Tensor, guides: Sequence[Tensor], grid: Grid, shifted: bool) -> Tensor:
        """Mix the change by `guides`: coarse image before, fine image before, coarse image after."""
        x = grid.cut(change, shifted)
        before, fine, after = (grid.cut(guide, shifted) for guide in guides)
        mask = self.attention.positions(grid, shifted, len(x))
        x = x + self.attention(self.norm(x), before, fine, after, mask)
        return grid.join(x + self.perceptron(x), shifted)


class Unmixing(nn.Module):
    """Blocks that turn the change of coarse features into one of fine features."""

    def __init__(self, channels: int, depth: int, window: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(channels, bias=of_queries) for of_queries in (True, False, False)])
        self.blocks = nn.ModuleList([UnmixingBlock(channels, window) for _ in range(depth)])

    def forward(self, before: Tensor, fine: Tensor, after: Tensor, grid: Grid) -> Tensor:
        """Give the change, ``(n, y, x, channel)``."""
        guides = [norm(tokens) for norm, tokens in zip(self.norms, (before, fine, after), strict=True)]
        change = after - before
        for k, block in enumerate(self.blocks):
            change = block(change, guides, grid, k % 2 == 1)
        return change


def heads(channels: int) -> int:
    """Attention heads: as many as divide the channels into 32 or more each."""
    return max((h for h in range(1, channels // HEAD + 1) if channels % h == 0), default=1)


def perceptron(channels: int) -> nn.Sequential:
    """Perceptron of two layers, as wide within as without."""
    return nn.Sequential(
        nn.LayerNorm(channels), nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, channels)
    )


def merged(tokens: Tensor) -> Tensor:
    """Put 2 x 2 tokens into one: ``(n, y, x, channel)`` to ``(n, y / 2, x / 2, 4 channel)``."""
    n, height, width, channels = tokens.shape
    return tokens.reshape(n, height // 2, 2, width // 2, 2, channels).transpose(2, 3).flatten(3)


def spread(tokens: Tensor) -> Tensor:
    """Undo `merged`."""
    n, height, width, channels = tokens.shape
    return tokens.reshape(n, height, width, 2, 2, -1).transpose(2, 3).reshape(n, 2 * height, 2 * width, channels // 4)


def _rolled(tokens: Tensor, down: int, right: int) -> Tensor:
    return tokens.roll((down, right), (1, 2)) if down or right else tokens


def _relative(window: tuple[int, int], most: int, device: torch.device) -> Tensor:
    """Row of a table for windows of at most `most` tokens, for every two tokens of a window."""
    y, x = (torch.arange(n, device=device) for n in window)
    dy, dx = (t[:, None] - t[None] + most - 1 for t in (y, x))
    return (dy[:, None, :, None] * (2 * most - 1) + dx[None, :, None, :]).reshape(len(y) * len(x), -1)


def _apart(size: tuple[int, int], window: tuple[int, int], *, shifted: bool, device: torch.device) -> Tensor | None:
    """What is added to the likeness of two tokens of a window: -inf if they are no neighbours in the image."""
    y, x = (_parts(*axis, shifted, device) for axis in zip(size, window, strict=True))
    if not y.any() and not x.any():
        return None
    part = y[:, None, :, None] * 3 + x[None, :, None, :]  # (row of windows, column of windows, y, x)
    part = part.reshape(-1, 1, window[0] * window[1])
    return (
        torch.zeros(part.shape, device=device).expand(-1, part.shape[-1], -1).masked_fill(part != part.mT, -torch.inf)
    )


def _parts(size: int, window: int, shifted: bool, device: torch.device) -> Tensor:
    """Which tokens of an axis belong together, ``(window, token)``: 0; 1 from beyond the end; 2 added ones."""
    total = -(-size // window) * window
    place = torch.arange(total, device=device) + (offset(size, window) if shifted else 0)
    part = (place >= total).long()
    return torch.where(place % total >= size, 2, part).reshape(-1, window)
