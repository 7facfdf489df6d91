"""The Chromium of the system: pages opened in it, which may complain of nothing, and pictures."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["launched", "picture", "windows"]

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

#: In the environments that exist to look at pages.
DEMANDED = "NORMCORE_BROWSER"


@contextmanager
def launched():
    """Run the browser; skip what needs it where there is none, or fail where it is demanded."""
    if BROWSER is None and DEMANDED in os.environ:
        pytest.fail(f"there is no Chromium, and {DEMANDED} demands one: apt install chromium")
    if BROWSER is None:
        pytest.skip("there is no Chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextmanager
def windows(browser, own, *, is_expected=lambda message: False):
    """Give what opens pages; to log, to raise or to ask other places than `own` is a fault."""
    complaints, contexts = [], []

    def note_message(message):
        if not is_expected(message):
            complaints.append(message.text)

    def note_request(request):
        if not request.url.startswith((own, "data:")):
            complaints.append(request.url)

    def open_page(url, width=1440, height=900, scheme="light", touch=False):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=touch
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", note_message)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", note_request)
        assert page.goto(url, wait_until="networkidle").ok
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def picture(page, name, **options):
    """Save what is seen of a page in the folder NORMCORE_PICTURES, if there is one."""
    folder = os.environ.get("NORMCORE_PICTURES")
    if folder:
        page.mouse.move(0, 0)
        page.screenshot(path=Path(folder) / name, **options)
