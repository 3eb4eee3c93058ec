"""The page of the leaderboard in a real browser."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from leaderboard.browser import SHOWN, Browser, choose, draw
from leaderboard.made_entries import CLASS, large

from retune.leaderboard.serve import serving
from retune.leaderboard.site import build

TRACK = f"tracks/{CLASS}.html"
ENTRY = f"entries/{CLASS}/best-1.html"


def sort_by(page: Browser, key: str) -> None:
    page.one(f"th[data-key={key}] button").click()


def test_rows_are_sorted_by_final_auc_and_by_whatever_head_is_pressed(page: Browser, wide_site: Path) -> None:
    page.open(wide_site / TRACK)
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
def test_rows_are_filtered(
    page: Browser, wide_site: Path, name: str, value: str, expected: list[str]
) -> None:
    page.open(wide_site / TRACK)
    choose(page, name, value)
    assert page.run(SHOWN) == expected
    assert page.one("[role=status]").text == "Showing 1 of 9 entries."
    page.one("button[type=reset]").click()
    page.wait("return document.querySelector('[role=status]').textContent === 'Showing 9 of 9 entries.'")


def test_all_entries_are_filtered_by_scenario_and_searched(page: Browser, wide_site: Path) -> None:
    page.open(wide_site / "entries.html")
    choose(page, "scenario", "data-incremental")
    assert page.run(SHOWN) == ["best"]
    page.one("button[type=reset]").click()
    page.one("input[type=search]").send_keys("REAL")
    page.wait("return document.querySelector('[role=status]').textContent.includes('1 of 11')")
    assert page.run(SHOWN) == ["real"]


def test_a_filtered_view_is_a_link(page: Browser, wide_site: Path) -> None:
    page.open(wide_site / TRACK)
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
    page.open(wide_site / TRACK, "#stores=yes&backbone=nobody-has-this&sort=nothing&way=sideways")
    assert page.run(SHOWN) == ["replayed"], "what a link cannot mean is left aside"
    page.run("location.hash = 'main'")
    assert page.run(SHOWN) == ["replayed"], "a place on the page is no filter"


def test_an_entry_opens_and_its_link_leads_back(page: Browser, wide_site: Path) -> None:
    page.open(wide_site / "index.html")
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
def test_pages_are_readable_on_a_phone(page: Browser, wide_site: Path, name: str) -> None:
    page.screen(390)
    page.open(wide_site / name)
    wide = page.run("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= 390, f"the page itself scrolls sideways: {wide}"
    assert page.run("return parseFloat(getComputedStyle(document.body).fontSize)") >= 16
    assert page.run(
        "return [...document.querySelectorAll('table')].every((one) => one.closest('.scroll') !== null)"
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index.html", "entries.html", TRACK, ENTRY])
def test_axe_finds_no_serious_fault(page: Browser, wide_site: Path, name: str, theme: str) -> None:
    page.screen(1280, theme=theme)
    page.open(wide_site / name)
    if name == TRACK:
        draw(page)
    assert page.faults() == []
    page.screen(390, theme=theme)
    assert page.faults() == []


def test_everything_can_be_done_with_keys(page: Browser, wide_site: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    page.open(wide_site / TRACK)
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


@pytest.mark.parametrize("served", [False, True])
def test_no_request_leaves_the_page(page: Browser, wide_site: Path, served: bool) -> None:
    def visit(base: str) -> None:
        for name in ("index.html", "entries.html", TRACK, ENTRY):
            page.open(base + name)
            if name == TRACK:
                draw(page)
        asked = page.asked()
        assert any(address.endswith("vega.js") for address in asked)
        assert [address for address in asked if not address.startswith(base)] == []

    if not served:
        return visit(wide_site.as_uri() + "/")
    with serving(wide_site, 0) as (address, serve):
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        visit(address)
    return None


def test_a_page_may_load_and_run_nothing_else(page: Browser, wide_site: Path) -> None:
    """The policy is in force: what a page is made to try fails."""
    page.open(wide_site / TRACK)
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
