"""A report in a real browser: sorted, filtered, pointed at, in light and dark and on a phone.

``tox -e browser`` runs it, with the Chromium of the system. NORMCORE_PICTURES names a folder for
the pictures of docs/report.md.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from chromium import launched, picture, windows

import normcore as nc

pytest.importorskip("jinja2")
pa = pytest.importorskip("pyarrow")

HOSTILE = "<script>document.title='taken'</script>"
N = 20_000


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(7)
    kind = rng.integers(0, 3, N)
    price = rng.lognormal(3, 0.8, N)
    price[rng.random(N) < 0.02] = np.nan
    return pa.table(
        {
            "customer_id": np.arange(N) + 100_000,
            "age": np.clip(rng.normal(44, 14, N), 18, 97).astype(int),
            "income": rng.lognormal(10.4, 0.5, N),
            "temperature": rng.normal(21, 4, N),
            "balance": rng.standard_t(2, N) * 300,
            "price": price,
            "visits": np.where(rng.random(N) < 0.7, 0, rng.lognormal(1, 1.5, N)),
            "pressure": (1e7 + rng.normal(0, 3, N)).astype(np.float32),
            "plan_free": (kind == 0).astype(np.int8),
            "plan_plus": (kind == 1).astype(np.int8),
            "plan_pro": (kind == 2).astype(np.int8),
            "active": rng.random(N) < 0.4,
            "created_at": 1_650_000_000 + rng.integers(0, 10**7, N),
            "city": rng.choice(["Oslo", "Lima", "Kyoto"], N),
            "unit": np.ones(N),
            HOSTILE: rng.normal(size=N),
        }
    )


@pytest.fixture(scope="module")
def page_file(table, tmp_path_factory):
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("report")
    pq.write_table(table, folder / "customers.parquet")
    before = Path.cwd()
    os.chdir(folder)
    try:
        nc.report("customers.parquet").save("report.html")
    finally:
        os.chdir(before)
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    with launched() as chromium:
        yield chromium


@pytest.fixture
def opened(browser, page_file):
    with windows(browser, "file:") as open_page:
        yield lambda *size, **options: open_page(page_file.as_uri(), *size, **options)


def names(page):
    return page.eval_on_selector_all(
        "tbody tr:not([hidden]) th", "all => all.map(each => each.firstChild.textContent)"
    )


def test_names_are_text(opened, table):
    page = opened()
    assert page.title() == "customers.parquet · normcore report"
    assert names(page) == table.column_names


def test_sorting(opened, table):
    page = opened()
    means = dict(
        page.eval_on_selector_all(
            "tbody tr",
            "all => all.map(r => [r.cells[0].firstChild.textContent, r.cells[7].textContent])",
        )
    )
    assert means["temperature"].startswith("2")
    page.click("thead button:text-is('Mean')")
    ascending = names(page)
    assert ascending[-1] == "city"  # without a mean, always last
    assert ascending.index("temperature") < ascending.index("age") < ascending.index("income")
    assert page.get_attribute("th:has(button:text-is('Mean'))", "aria-sort") == "ascending"
    page.click("thead button:text-is('Mean')")
    assert names(page) == [*reversed(ascending[:-1]), "city"]
    page.select_option("#sort", "")
    assert names(page) == table.column_names
    page.select_option("#sort", label="Column")
    assert names(page)[1:3] == ["active", "age"]
    page.click("#turn")
    assert names(page)[0] == "visits"


def test_filtering(opened):
    page = opened()
    page.fill("#find", "PLAN")
    assert names(page) == ["plan_free", "plan_plus", "plan_pro"]
    assert page.inner_text("#found") == "3 of 16 columns"
    page.fill("#find", "")
    page.select_option("#show", "one_hot")
    assert names(page) == ["plan_free", "plan_plus", "plan_pro"]
    page.select_option("#show", "")
    page.click(".legend button[data-f=robust]")
    assert names(page) == ["balance"]
    page.fill("#find", "nothing")
    assert page.is_visible("#none")
    page.fill("#find", "")
    page.click(".legend button[data-f=robust]")
    assert len(names(page)) == 16


@pytest.mark.parametrize("place", ["before", "after"])
def test_tooltips_tell_the_bin(opened, page_file, table, place):
    page = opened()
    chart = page.locator(f"tbody tr:has(th:text('age')) svg[aria-label={place}]")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2)
    assert page.is_visible("#tip")
    told = page.inner_text("#tip")
    (column,) = (c for c in nc.report(table, columns=["age"]).columns)
    drawn = column.before if place == "before" else column.after
    middle = len(drawn.counts) // 2
    assert f": {drawn.counts[middle]:,} (" in told
    page.mouse.move(2, 2)
    assert page.is_hidden("#tip")


def test_tooltips_of_a_touch(opened):
    page = opened(360, 800, touch=True)
    page.locator("tbody tr:has(th:text('income')) svg").first.tap()
    assert "%" in page.inner_text("#tip")


@pytest.mark.parametrize("width", [360, 700, 1000, 1170, 1280, 1600])
def test_nothing_is_wider_than_the_window(opened, width):
    page = opened(width, 900)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(opened, scheme):
    page = opened(scheme=scheme)
    contrasts = page.evaluate(
        """() => {
          const light = (color) => color.match(/[\\d.]+/g).slice(0, 3).map(Number).reduce(
            (sum, part, i) => {
              const c = part / 255;
              const linear = c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
              return sum + linear * [0.2126, 0.7152, 0.0722][i];
            }, 0);
          const behind = (node) => {
            const color = getComputedStyle(node).backgroundColor;
            return /, 0\\)$|transparent/.test(color) && node.parentElement
              ? behind(node.parentElement) : color;
          };
          return [...document.querySelectorAll("h1,h2,th,td,small,em,b,button,dt,dd,footer,pre")]
            .filter((node) => node.textContent.trim() && node.offsetParent)
            .map((node) => {
              const [one, other] = [getComputedStyle(node).color, behind(node)].map(light);
              return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
            });
        }"""
    )
    assert len(contrasts) > 100
    assert min(contrasts) >= 4.5  # WCAG 2.1, level AA


def test_pictures(opened):
    for scheme in ("light", "dark"):
        page = opened(1440, 1180, scheme=scheme)
        page.evaluate("document.querySelector('.apply').remove()")
        picture(page, f"report-{scheme}.png")
    page = opened(360, 1180, touch=True)
    page.evaluate("document.querySelector('tbody').scrollIntoView()")
    picture(page, "report-phone.png")
