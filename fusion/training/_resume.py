"""What a training needs to go on after it was killed: one file per training, written after each epoch."""

import hashlib
import json
import logging
import os
import pickle
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import checkpoints
from ..methods._deep import Deep

OLD = 30 * 24 * 3600  # seconds after which nobody comes back to a training
# What torch raises for other bytes than its own.
NONSENSE = (ValueError, LookupError, TypeError, AttributeError, AssertionError)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resume:
    """The file of one training; its name is made of everything that the training depends on."""

    path: Path

    @classmethod
    def of(cls, method: Deep, nets: nn.ModuleDict, options: Any, epochs: int, seed: int, series: str) -> "Resume":
        """Name the file of a training."""
        shapes = {key: list(value.shape) for key, value in nets.state_dict().items()}  # another version's may differ
        body = [type(method).name(), _code(method), method.parameters(), shapes, asdict(options), epochs, seed, series]
        body.append(torch.__version__)
        key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:24]
        return cls(checkpoints.folder() / "unfinished" / f"{key}.pt")

    def write(self, state: dict[str, Any]) -> None:
        """Keep a state of tensors and plain numbers; that the disk is full is said and no error."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=self.path.parent, suffix=".part")
            try:
                with os.fdopen(handle, "wb") as file:
                    torch.save(state, file)
                os.replace(draft, self.path)
            finally:
                Path(draft).unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:  # torch says RuntimeError where a write falls short
            _LOG.warning(
                "This training cannot be resumed if it is killed: %s cannot be written (%s).", self.path, error
            )

    def read(self) -> dict[str, Any] | None:
        """Return what was kept, or None; a damaged file counts as none. What others left long ago is deleted."""
        self._tidy()
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, *NONSENSE):
            return None
        return state if isinstance(state, dict) else None

    def _tidy(self) -> None:
        with suppress(OSError):
            for left in self.path.parent.iterdir():
                if left.suffix in (".pt", ".part") and time.time() - left.stat().st_mtime > OLD:
                    left.unlink(missing_ok=True)

    def forget(self) -> None:
        """Delete the file; the training is over."""
        self.path.unlink(missing_ok=True)


def _code(method: Deep) -> str:
    """Hash of the network's own file: what another version left is not gone on with."""
    file = sys.modules[type(method).__module__].__file__
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
