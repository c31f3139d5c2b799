"""Fixtures and settings that several test files share; what browser tests share is in browser.py."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side: more threads of torch would only wait

import hypothesis
import pytest

hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real images; the test is skipped where there is none."""
    folder = os.environ.get("FUSION_TEST_DATA")
    if not folder:
        pytest.skip("FUSION_TEST_DATA is not set: name the folder of real test images to run this test")
    if not Path(folder).is_dir():
        pytest.fail(f"FUSION_TEST_DATA={folder} is no folder")
    return Path(folder).resolve()
