"""What browser tests share: a Streamlit server, Debian's Chromium, and a record of what a page asked and complained.

Use it so::

    pytestmark = pytest.mark.browser

    @pytest.fixture(scope="module")
    def chromium():
        with browser.chromium() as running:
            yield running

    def test_it(chromium, tmp_path):
        with browser.serve("app.py", browser.ROOT) as url, browser.visit(chromium, url) as page:
            ...
        # on leaving, the test fails if the page asked another host for anything or wrote an error to the console
"""

import io
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Playwright, expect, sync_playwright

ROOT = Path(__file__).parents[1]
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
HERE = ("localhost", "127.0.0.1", "::1")
# On a deep link, Streamlit's own client first asks for these below the page's path and then at the root.
PROBE = re.compile(r"^http://[^/]+/.+/_stcore/(health|host-config)$")
IDLE = "[data-testid=stApp][data-test-script-state=notRunning]"


def executable() -> str:
    """Path of Chromium; without one the test is skipped, or fails where CI is true."""
    path = os.environ.get("CHROMIUM", CHROMIUM)
    if not Path(path).exists():
        reason = f"no browser at {path}: install Debian's chromium, or name one in CHROMIUM"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run one Chromium."""
    path = executable()
    runner: Playwright
    with sync_playwright() as runner:
        running = runner.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield running
        finally:
            running.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(script: str | Path, cwd: Path, *, env: dict[str, str] | None = None, patience: float = 60) -> Iterator[str]:
    """Run a Streamlit script on a free port; give its address once it answers, stop it on leaving."""
    executable()
    port = _free_port()
    options = {"port": port, "address": "127.0.0.1", "headless": "true", "fileWatcherType": "none"}
    command = [sys.executable, "-m", "streamlit", "run", str(script), "--browser.gatherUsageStats=false"]
    command += [f"--server.{name}={value}" for name, value in options.items()]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    whole = {**os.environ, "PYTHONPATH": paths, **(env or {})}
    log = cwd / f"server-{port}.log" if cwd != ROOT else Path(os.devnull)
    with log.open("w") as out, subprocess.Popen(command, cwd=cwd, env=whole, stdout=out, stderr=out) as server:
        try:
            _wait_until_healthy(f"http://127.0.0.1:{port}/_stcore/health", server, log, patience)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_until_healthy(address: str, server: "subprocess.Popen[bytes]", log: Path, patience: float) -> None:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with {server.returncode}: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(address, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise RuntimeError(f"the server did not answer within {patience:g} s: {log.read_text()[-2000:]}")


@dataclass
class Record:
    """What a page asked of other hosts, what did not load, and what it wrote to the console as error."""

    external: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        """Follow one page."""
        page.on("request", lambda request: self._asked(request.url))
        page.on("websocket", lambda socket: self._asked(socket.url))
        page.on("requestfailed", lambda request: self.failed.append(f"{request.url}: {request.failure}"))
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _said(self, message: ConsoleMessage) -> None:
        where = message.location.get("url", "")
        if message.type == "error" and not PROBE.search(where):
            self.errors.append(f"{message.text} ({where})")

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.hostname not in HERE:
            self.external.append(url)

    def check(self) -> None:
        """Fail if there is anything to complain about."""
        assert not self.external, f"asked other hosts: {self.external}"
        assert not self.errors, f"errors on the console: {self.errors}"


@contextmanager
def visit(
    running: Browser, url: str, *, width: int = 1440, height: int = 900, check: bool = True, **options: Any
) -> Iterator[Page]:
    """Open an address in a fresh session; on leaving, check what it asked and complained (``page.record``)."""
    context = running.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    record = Record()
    record.watch(page)
    page.record = record  # type: ignore[attr-defined]
    try:
        page.goto(url)
        idle(page)
        yield page
        if check:
            record.check()
    finally:
        context.close()


def idle(page: Page, *, timeout: float = 30_000) -> None:
    """Wait until the script has run and nothing is left to draw."""
    page.wait_for_selector(IDLE, timeout=timeout)
    page.wait_for_selector("[data-testid=stAppSkeleton]", state="detached", timeout=timeout)


# What a person does


def ready(page: Page) -> None:
    """Wait until the script has run and the map shows its pictures."""
    idle(page)
    page.wait_for_selector("[data-testid=map-widget][data-ready=true]")


def at(page: Page, lon: float, lat: float) -> tuple[float, float]:
    """Where on the screen a place on the first map is, after scrolling the map into view."""
    shown = page.get_by_test_id("map").first
    shown.scroll_into_view_if_needed()
    x, y = shown.evaluate("(map, place) => map.place(...place)", [lon, lat])
    return x, y


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Move the mouse with its button down."""
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=6)
    page.mouse.up()


def step(page: Page, name: str) -> None:
    """Go to another page by the sidebar."""
    page.get_by_test_id("stSidebar").get_by_role("link", name=name).click()
    heading(page, name.lstrip("12345 "))
    idle(page)


def heading(page: Page, title: str) -> None:
    expect(page.get_by_role("heading", level=1, name=title)).to_be_visible(timeout=15_000)


def button(page: Page, name: str) -> Locator:
    return page.get_by_test_id("stMain").get_by_role("button", name=re.compile(rf"(^|\s){name}$"))


def summary(page: Page) -> str:
    return page.get_by_test_id("stSidebar").inner_text()


def result_link(page: Page) -> Locator:
    """The link to the file; while it is drawn again, the old one stays a moment."""
    return page.get_by_role("link", name="Download GeoTIFF (COG)").first


def saved(page: Page, asked: Locator) -> bytes:
    """What a click downloads."""
    with page.expect_download() as download:
        asked.click()
    return Path(download.value.path()).read_bytes()


def fuse(page: Page, patience: float = 60) -> None:
    button(page, "Fuse").click()
    result_link(page).wait_for(timeout=1000 * patience)  # there once the first method is done
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0, timeout=1000 * patience)
    ready(page)


def no_trace(page: Page) -> None:
    assert page.get_by_test_id("stException").count() == 0
    assert "Traceback" not in page.locator("body").inner_text()


def shoot(page: Page, name: str) -> None:
    """Keep a picture for the README where asked to."""
    if folder := os.environ.get("FUSION_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.mouse.move(1, 1)
        page.wait_for_timeout(600)
        Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(256).save(
            Path(folder) / f"{name}.png", optimize=True
        )


def pick(page: Page, label: str, option: str) -> None:
    """Choose in a select box as a person does."""
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()
    idle(page)
