"""The built site in a real browser: pages, search, light and dark, a phone; and every link inside.

``tox -e docs`` builds it and runs this, with the Chromium of the system. NORMCORE_SITE names the
folder of the site, NORMCORE_PICTURES one for pictures.
"""

import functools
import http.server
import os
import re
import threading
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from chromium import launched, picture, windows
from paths import ROOT
from reference_names import names_to_list

SITE = Path(os.environ.get("NORMCORE_SITE", ROOT / "build" / "site"))
pytestmark = pytest.mark.skipif(not (SITE / "index.html").exists(), reason="no site is built")
PAGES = {
    "start-page": "index.html",
    "guide": "scalers.html",
    "reference": "reference/generated/normcore.StandardScaler.html",
    "gallery": "gallery/index.html",
    "example": "gallery/plot_network_of_the_paper.html",
    "architecture": "architecture.html",
    "support": "support.html",
}


class Page(HTMLParser):
    """Links of a page to others, and what its own parts are called."""

    def __init__(self, path):
        super().__init__()
        self.links, self.names = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        """Note a link, a picture, a script or a name."""
        for name, value in attributes:
            if value and name in ("href", "src") and not urlsplit(value).scheme:
                self.links.append(value)
            elif name == "srcset":
                self.links += [each.split()[0] for each in value.split(",")]
            elif name in ("id", "name"):
                self.names.add(value)


def test_no_link_inside_is_dead():
    pages = {
        path.resolve(): Page(path) for path in SITE.rglob("*.html") if "_static" not in path.parts
    }
    assert len(pages) > 150
    dead = []
    for path, page in pages.items():
        for link in page.links:
            target, anchor = map(unquote, urldefrag(link))
            target = (path.parent / urlsplit(target).path).resolve() if target else path
            target = target / "index.html" if target.is_dir() else target
            lost = anchor and target in pages and anchor not in pages[target].names
            if lost or not target.exists():
                dead.append(f"{path.relative_to(SITE.resolve())}: {link}")
    assert not dead, dead[:20]


def test_nothing_comes_from_elsewhere():
    for path in SITE.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"<(?:script|img|link)[^>]*(?:src|href)=\"(https?:[^\"]+)\"", text)
        assert not found, (path, found)


def test_the_inventory_has_every_public_name():
    content = (SITE / "objects.inv").read_bytes().split(b"\n", 4)
    lines = zlib.decompress(content[4]).decode().splitlines()
    names = {line.split(" ")[0] for line in lines if " py:" in line}
    missing = names_to_list() - names
    assert not missing, sorted(missing)


@pytest.fixture(scope="module")
def address():
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    with launched() as chromium:
        yield chromium


def is_of_the_theme(message):
    """Whether a message tells which of its modes the theme is in."""
    return message.type not in ("error", "warning") and message.text.startswith("[PST]")


@pytest.fixture
def opened(browser, address):
    with windows(browser, address, is_expected=is_of_the_theme) as open_page:
        yield lambda path, **options: open_page(address + path, **options)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_pages(opened, name, scheme):
    page = opened(PAGES[name], scheme=scheme)
    assert page.locator("h1").count() == 1
    page.wait_for_function(f"document.documentElement.dataset.theme == '{scheme}'")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
    picture(page, f"{name}-{scheme}.png")


@pytest.mark.parametrize("name", PAGES)
def test_pages_on_a_phone(opened, name):
    page = opened(PAGES[name], width=390, height=844)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    picture(page, f"{name}-phone.png")


def test_search(opened):
    page = opened("search.html?q=StandardScaler")
    page.wait_for_selector("#search-results li a")
    links = page.eval_on_selector_all(
        "#search-results li a", "all => all.map(each => each.getAttribute('href'))"
    )
    assert any("normcore.StandardScaler" in link for link in links)
    picture(page, "search-light.png")


def test_the_dialog_of_search_leads_there(opened):
    page = opened("index.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("population statistics")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a")
    assert "search.html?q=population" in page.url
