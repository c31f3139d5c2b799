"""Time from opening the app to a fused result and to cancel, the server's memory idle and after many runs (Linux).

Run: PYTHONPATH=.:tests python benchmarks/app.py [--runs 20]

A real Chromium opens the Fuse page of the bundled sample, presses Fuse and waits for the picture; it cancels a run of
minutes, and asks another tab for a result; then it runs STARFM
with another window each time on the whole landscape lab (640 x 640 pixels, 6 bands, two pairs), and the server's
resident memory is read after each run.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

from playwright.sync_api import Browser, Page

import browser
from fusion import methods
from pages._shared.state import Work


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    began = time.perf_counter()
    with browser.serve("app.py", browser.ROOT) as url:
        print(f"server answers after          {time.perf_counter() - began:6.1f} s")
        with browser.chromium() as chromium:
            with browser.visit(chromium, url):
                print(f"memory, idle, start page      {memory(url):6.0f} MB")
            for label in ("first visit", "second visit"):
                with browser.visit(chromium, url) as page:
                    opened = time.perf_counter()
                    page.goto(f"{url}/fuse")
                    browser.idle(page)
                    shown = time.perf_counter()
                    fuse(page)
                    done = time.perf_counter()
                    print(
                        f"sample, {label:12}  page {shown - opened:5.1f} s, fused result after {done - opened:5.1f} s"
                    )
            print(f"memory, sample fused          {memory(url):6.0f} MB")
            cancelled, freed = cancel(chromium, url)
            print(f"a run of minutes cancelled after {cancelled:.1f} s, another tab's result {freed:.1f} s later")
            starfm = methods.get("starfm")
            for run in range(runs):
                work = replace(Work(source="lab"), methods=(starfm(window=5 + 2 * run),))
                with browser.visit(chromium, f"{url}/fuse?w={work.to_link()}") as page:
                    fuse(page)
                if run in (0, runs // 2, runs - 1):
                    print(f"memory after {run + 1:2} lab runs      {memory(url):6.0f} MB")
            time.sleep(10)
            print(f"memory, all tabs closed       {memory(url):6.0f} MB")


def cancel(chromium: Browser, url: str) -> tuple[float, float]:
    """Seconds from pressing Cancel until the page says so, and from there to the result of another tab."""
    work = replace(Work(source="lab"), methods=(methods.get("starfm")(window=201),))
    quick = replace(Work(), methods=(methods.get("nearest")(),))
    with (
        browser.visit(chromium, f"{url}/fuse?w={work.to_link()}") as page,
        browser.visit(chromium, f"{url}/fuse?w={quick.to_link()}") as other,
    ):
        page.get_by_role("button", name="Fuse", exact=True).click()
        button = page.get_by_role("button", name="Cancel")
        button.wait_for(timeout=15_000)
        page.wait_for_timeout(3000)
        pressed = time.perf_counter()
        button.click()
        button.wait_for(state="detached", timeout=30_000)
        cancelled = time.perf_counter()
        fuse(other)
        return cancelled - pressed, time.perf_counter() - cancelled


def fuse(page: Page) -> None:
    """Press Fuse and wait until the result is on the map."""
    page.get_by_role("button", name="Fuse", exact=True).click()
    page.get_by_role("link", name="Download GeoTIFF (COG)").wait_for(timeout=120_000)
    page.locator("[data-testid=map-widget][data-ready=true]").wait_for(timeout=60_000)


def memory(url: str) -> float:
    """Resident megabytes of the server that listens at this address."""
    port = url.rpartition(":")[2]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"--server.port={port}".encode() in (folder / "cmdline").read_bytes():
                status = (folder / "status").read_text()
                return int(status.split("VmRSS:")[1].split()[0]) / 1024
        except OSError:
            continue
    raise RuntimeError(f"no server at port {port}")


if __name__ == "__main__":
    main()
