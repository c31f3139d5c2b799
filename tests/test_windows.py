"""Windows: the kernels where nothing may be written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

FUSION = Path(__file__).resolve().parent.parent / "fusion"

CODE = """
import numpy as np
from fusion.methods import _windows
planes = [np.ones((1, 4, 5), np.float32)] * 3
limits = (np.full((4, 5), 2, np.float32),) * 2
near = np.ones((3, 3), np.float32)
total, norm = _windows.similar_sum(*planes, (planes[0],) * 2, limits, np.ones(1, np.float32), near)
print(int(total[0, 0]), int(norm[1, 1]))
"""


def test_kernels_are_compiled_where_no_cache_can_be_written(tmp_path):
    shutil.copytree(FUSION, tmp_path / "fusion", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "fusion/methods/__pycache__").write_text("a file, so that no folder can be made, not even by root")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "XDG_"))}
    environment |= {"HOME": "/dev/null", "PYTHONPATH": str(tmp_path), "FUSION_DEVICE": "cpu"}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["4", "9"]
