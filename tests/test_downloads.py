"""Files to download: one per result, random names, expiry, a bound, many threads, a full disk."""

import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fusion.errors import FusionError
from pages._shared.downloads import Downloads


def writer(size: int = 10):  # type: ignore[no-untyped-def]
    return lambda path: path.write_bytes(b"x" * size)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*")}


def test_one_result_is_one_file_with_a_name_nobody_guesses(tmp_path: Path) -> None:
    downloads = Downloads(tmp_path, life=60, limit=1000)
    first, again, other = (downloads.publish(key, writer()) for key in ("a", "a", "b"))
    assert first == again != other
    assert names(tmp_path) == {first, other}
    assert all(len(name.removesuffix(".tif")) >= 32 for name in (first, other))


def test_a_file_expires_and_is_written_again_under_another_name(tmp_path: Path) -> None:
    downloads = Downloads(tmp_path, life=60, limit=1000)
    old = downloads.publish("a", writer())
    past = time.time() - 61
    os.utime(tmp_path / old, (past, past))
    downloads.sweep()
    assert names(tmp_path) == set()
    assert downloads.publish("a", writer()) != old


def test_a_server_that_starts_takes_only_expired_files_of_others(tmp_path: Path) -> None:
    first = Downloads(tmp_path, life=60, limit=1000)
    theirs = first.publish("a", writer())
    Downloads(tmp_path, life=60, limit=1000).sweep()
    assert names(tmp_path) == {theirs}


def test_beyond_the_bound_the_oldest_goes_but_never_the_new_one(tmp_path: Path) -> None:
    downloads = Downloads(tmp_path, life=60, limit=25)
    for age, key in enumerate("abc"):
        name = downloads.publish(key, writer())
        os.utime(tmp_path / name, (time.time() - 30 + age, time.time() - 30 + age))
    huge = downloads.publish("huge", writer(100))
    assert names(tmp_path) == {huge}


def test_many_threads_with_files_that_expire_meanwhile(tmp_path: Path) -> None:
    downloads = Downloads(tmp_path, life=0.001, limit=1000)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda i: downloads.publish(str(i % 3), writer()), range(200)))
    assert all(got)
    time.sleep(0.01)
    downloads.sweep()
    assert names(tmp_path) == set()


def test_a_full_disk_is_told_in_words(tmp_path: Path) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(FusionError, match="could not write.*No space left"):
        Downloads(tmp_path, life=60, limit=1000).publish("a", full)
