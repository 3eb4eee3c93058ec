"""The page of the leaderboard in a real browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from leaderboard.browser import Browser, browsing, require_browser
from leaderboard.made_entries import CLASS, add, document, large, small

from retune.leaderboard.serve import serving
from retune.leaderboard.site import build

TRACK = f"tracks/{CLASS}.html"
ENTRY = f"entries/{CLASS}/best-1.html"
CHART = "return document.querySelectorAll('.chart svg').length"
SHOWN = """return [...document.querySelectorAll('table.rows tbody tr')]
    .filter((row) => row.getClientRects().length).map((row) => row.querySelector('th a').textContent)"""
"""Names in rows that can be seen, from top to bottom."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_browser()
    folder = tmp_path_factory.mktemp("site")
    board = small(folder / "board")
    long = "A very long name of a method " + "x" * 31
    add(board, document(name=long[:60], auc=0.74, method={"note": "y" * 300, "authors": ["z" * 300]}))
    build(board, folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    require_browser()
    with browsing(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(chromium: Browser) -> Iterator[Browser]:
    """A browser that has said nothing yet, and in the end must have said nothing."""
    chromium.screen(1280)
    chromium.driver.get("about:blank")
    chromium.asked()
    chromium.driver.get_log("browser")
    yield chromium
    assert chromium.complaints() == []


def choose(page: Browser, name: str, value: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(page.one(f"select[name={name}]")).select_by_value(value)


def sort_by(page: Browser, key: str) -> None:
    page.one(f"th[data-key={key}] button").click()


def test_rows_are_sorted_by_final_auc_and_by_whatever_head_is_pressed(page: Browser, site: Path) -> None:
    page.open(site / TRACK)
    by_auc = page.run(SHOWN)
    assert by_auc[:3] == ["claimed", "best", "close"]
    assert by_auc[-2:] == ["undefined", "joint"], (
        "what has no number comes after all others, upper bounds last"
    )
    sort_by(page, "fit_seconds")
    assert page.run(SHOWN)[:3] == ["cheap", "replayed", "claimed"]
    assert page.one("th[data-key=fit_seconds]").get_attribute("aria-sort") == "ascending"
    assert page.one("th[data-key=final_auc]").get_attribute("aria-sort") is None
    sort_by(page, "fit_seconds")
    assert page.run(SHOWN)[0] == "close"
    assert page.run(SHOWN)[-1] == "joint"
    sort_by(page, "final_auc")
    sort_by(page, "final_auc")
    assert page.run(SHOWN)[0].startswith("A very long name")
    assert page.run(SHOWN)[-2:] == ["undefined", "joint"], "whichever way"
    sort_by(page, "method")
    assert page.run(SHOWN)[1:4] == ["best", "cheap", "claimed"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("backbone", "biomed-clip", ["other backbone"]),
        ("tier", "re-run", ["best"]),
        ("stores", "yes", ["replayed"]),
        ("contaminated", "possibly", ["other backbone"]),
    ],
)
def test_rows_are_filtered(page: Browser, site: Path, name: str, value: str, expected: list[str]) -> None:
    page.open(site / TRACK)
    choose(page, name, value)
    assert page.run(SHOWN) == expected
    assert page.one("[role=status]").text == "Showing 1 of 9 entries."
    page.one("button[type=reset]").click()
    page.wait("return document.querySelector('[role=status]').textContent === 'Showing 9 of 9 entries.'")


def test_all_entries_are_filtered_by_scenario_and_searched(page: Browser, site: Path) -> None:
    page.open(site / "entries.html")
    choose(page, "scenario", "data-incremental")
    assert page.run(SHOWN) == ["best"]
    page.one("button[type=reset]").click()
    page.one("input[type=search]").send_keys("REAL")
    page.wait("return document.querySelector('[role=status]').textContent.includes('1 of 11')")
    assert page.run(SHOWN) == ["real"]


def test_a_filtered_view_is_a_link(page: Browser, site: Path) -> None:
    page.open(site / TRACK)
    choose(page, "contaminated", "no")
    choose(page, "stores", "no")
    page.one("input[type=search]").send_keys("e")
    sort_by(page, "trainable_parameters")
    address, shown = page.driver.current_url, page.run(SHOWN)
    assert "#" in address
    assert "cheap" in shown
    assert "replayed" not in shown
    page.open(address)
    assert page.run(SHOWN) == shown
    assert page.run("return document.querySelector('select[name=stores]').value") == "no"
    page.open(site / TRACK, "#stores=yes&backbone=nobody-has-this&sort=nothing&way=sideways")
    assert page.run(SHOWN) == ["replayed"], "what a link cannot mean is left aside"
    page.run("location.hash = 'main'")
    assert page.run(SHOWN) == ["replayed"], "a place on the page is no filter"


def test_an_entry_opens_and_its_link_leads_back(page: Browser, site: Path) -> None:
    page.open(site / "index.html")
    page.one(f"a[href='{TRACK}']").click()
    page.one("tbody a[href$='best-1.html']").click()
    permanent = page.driver.current_url
    assert permanent.endswith(ENTRY)
    assert page.one("h1").text.startswith("best 1")
    page.one("dd a[href='best-1.html']").click()
    assert page.driver.current_url == permanent
    page.one(f"nav a[href='../../{TRACK}']").click()
    assert len(page.run(SHOWN)) == 9


@pytest.mark.parametrize("name", ["index.html", "entries.html", TRACK, ENTRY])
def test_pages_are_readable_on_a_phone(page: Browser, site: Path, name: str) -> None:
    page.screen(390)
    page.open(site / name)
    wide = page.run("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= 390, f"the page itself scrolls sideways: {wide}"
    assert page.run("return parseFloat(getComputedStyle(document.body).fontSize)") >= 16
    assert page.run(
        "return [...document.querySelectorAll('table')].every((one) => one.closest('.scroll') !== null)"
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index.html", "entries.html", TRACK, ENTRY])
def test_axe_finds_no_serious_fault(page: Browser, site: Path, name: str, theme: str) -> None:
    page.screen(1280, theme=theme)
    page.open(site / name)
    if name == TRACK:
        draw(page)
    assert page.faults() == []
    page.screen(390, theme=theme)
    assert page.faults() == []


def draw(page: Browser) -> None:
    page.run("document.querySelector('.charts').scrollIntoView()")
    page.wait(f"{CHART} === 2")


def test_light_and_dark_are_two_looks(page: Browser, site: Path) -> None:
    def look() -> tuple[Any, Any]:
        paper = page.run("return getComputedStyle(document.body).backgroundColor")
        text = page.run("return getComputedStyle(document.querySelector('.chart svg text')).fill")
        return paper, text

    page.open(site / TRACK)
    draw(page)
    light = look()
    page.screen(1280, theme="dark")
    page.wait(
        "return getComputedStyle(document.querySelector('.chart svg text') ?? document.body).fill"
        f" !== '{light[1]}' && {CHART.removeprefix('return ')} === 2"
    )
    dark = look()
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] == "rgb(20, 23, 26)"
    assert light[1] != dark[1], "what a chart says is legible in the dark"


def test_everything_can_be_done_with_keys(page: Browser, site: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    page.open(site / TRACK)
    page.keys(Keys.TAB)
    assert page.run("return document.activeElement.className") == "skip"
    seen = []
    for _ in range(60):
        page.keys(Keys.TAB)
        tag = page.run("const e = document.activeElement; return e.name || e.textContent.trim()")
        seen.append(tag)
        if tag == "backbone":
            page.keys(Keys.ARROW_DOWN)
            assert page.run(SHOWN) == ["other backbone"]
        if tag.startswith("method"):
            page.keys(Keys.ENTER)
            break
    assert {"q", "backbone", "tier", "stores", "contaminated", "Show all"} <= set(seen)
    assert page.run("return document.querySelector('select[name=backbone]').value") == "biomed-clip"
    assert page.one("th[data-key=method]").get_attribute("aria-sort") == "ascending"
    outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none", "where the focus is can be seen"
    for _ in range(20):
        page.keys(Keys.TAB)
        if page.run("return document.activeElement.textContent") == "other backbone":
            break
    page.keys(Keys.ENTER)
    page.wait("return location.href.endsWith('other-backbone-1.html')")


def test_charts_show_what_the_table_shows_and_its_pareto_front(page: Browser, site: Path) -> None:
    page.open(site / TRACK)
    assert not any("vega" in address for address in page.asked()), "nothing is loaded that is not yet seen"
    draw(page)
    charts = [box.get_attribute("aria-label") for box in page.all(".chart")]
    # Nobody has checked claimed, the best of all; the upper bound is no continual method.
    assert "Pareto front, by rising cost: cheap 1, best 1." in charts[0]
    assert "of 9 entries" not in charts[0], "an entry without a number is on no chart"
    assert "of 8 entries" in charts[0]
    choose(page, "tier", "recomputed")
    page.wait("return document.querySelector('.chart').ariaLabel.includes('of 6 entries')")
    assert "by rising cost: cheap 1, other backbone 1, close 1." in page.one(".chart").get_attribute(
        "aria-label"
    )
    points = page.run(
        "return document.querySelectorAll('.chart')[0].querySelectorAll('.mark-symbol.role-mark path').length"
    )
    assert points == 6
    ticks = page.run("return [...document.querySelectorAll('.chart svg text')].map((one) => one.textContent)")
    assert {"0", "100", "1k", "10k", "100k", "1M", "0.1", "1", "10"} <= set(ticks)
    choose(page, "tier", "self-reported")
    page.wait("return document.querySelector('.chart').ariaLabel.includes('of 1 entries')")
    assert "by rising cost: claimed 1." in page.one(".chart").get_attribute("aria-label")


def test_a_point_tells_of_its_entry_and_leads_to_it(page: Browser, site: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    page.open(site / TRACK, "#q=other+backbone")
    draw(page)
    point = page.one(".chart .mark-symbol.role-mark path")
    ActionChains(page.driver).move_to_element(point).perform()
    page.wait("return !document.querySelector('.hint').hidden")
    hint = page.one(".hint").text
    assert "other backbone 1" in hint
    assert ".810" in hint
    point.click()
    page.wait("return location.href.endsWith('other-backbone-1.html')")


@pytest.mark.parametrize("served", [False, True])
def test_no_request_leaves_the_page(page: Browser, site: Path, served: bool) -> None:
    def visit(base: str) -> None:
        for name in ("index.html", "entries.html", TRACK, ENTRY):
            page.open(base + name)
            if name == TRACK:
                draw(page)
        asked = page.asked()
        assert any(address.endswith("vega.js") for address in asked)
        assert [address for address in asked if not address.startswith(base)] == []

    if not served:
        return visit(site.as_uri() + "/")
    with serving(site, 0) as (address, serve):
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        visit(address)
    return None


def test_a_page_may_load_and_run_nothing_else(page: Browser, site: Path) -> None:
    """The policy is in force: what a page is made to try fails."""
    page.open(site / TRACK)
    page.run(
        """const script = document.createElement("script"); script.textContent = "window.ran = 1";
        document.body.append(script);
        const image = new Image(); image.src = "https://example.org/x.png"; document.body.append(image);
        const link = document.querySelector("h1"); link.setAttribute("onclick", "window.ran = 1"); link.click();"""
    )
    page.wait("return window.complaints.length >= 3")
    assert sorted(page.run("return window.complaints")) == [
        "img-src https://example.org/x.png",
        "script-src-attr inline",
        "script-src-elem inline",
    ]
    assert page.run("return window.ran === undefined")
    page.open("about:blank")
    page.driver.get_log("browser")


def test_very_many_entries_come_a_hundred_at_a_time(page: Browser, tmp_path: Path) -> None:
    build(large(tmp_path / "board", 150, seeds=1), tmp_path / "site")
    page.open(tmp_path / "site" / TRACK)
    assert len(page.run(SHOWN)) == 100
    assert page.one("[role=status]").text == "Showing the first 100 of 150 that fit, of 150 entries."
    best = page.run(SHOWN)[0]
    sort_by(page, "final_auc")
    assert len(page.run(SHOWN)) == 100
    assert page.run(SHOWN)[0] != best
    page.one("button.more").click()
    assert len(page.run(SHOWN)) == 150
    assert page.run(SHOWN)[-1] == best
