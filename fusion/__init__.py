"""Meantime: spatiotemporal fusion of satellite images.

>>> from fusion import methods
>>> "starfm" in methods.names()
True
"""

from . import methods, sources
from .engine import fuse
from .errors import Cancelled, FusionError
from .explain import explain
from .methods import Method, param, register
from .metrics import evaluate
from .preprocess import aggregate
from .products import PRODUCTS, Product
from .propose import recipe_for
from .recipe import Recipe, load, run
from .scene import Scene
from .sources import Item
from .stack import Pair, Stack, holdout

__version__ = "0.1.0"

__all__ = [
    "PRODUCTS",
    "Cancelled",
    "FusionError",
    "Item",
    "Method",
    "Pair",
    "Product",
    "Recipe",
    "Scene",
    "Stack",
    "aggregate",
    "evaluate",
    "explain",
    "fuse",
    "holdout",
    "load",
    "methods",
    "param",
    "recipe_for",
    "register",
    "run",
    "sources",
]
