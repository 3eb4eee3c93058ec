"""The charts of the leaderboard in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leaderboard.browser import CHART, Browser, choose, draw
from leaderboard.made_entries import CLASS

TRACK = f"tracks/{CLASS}.html"


def test_light_and_dark_are_two_looks(page: Browser, wide_site: Path) -> None:
    def look() -> tuple[Any, Any]:
        paper = page.run("return getComputedStyle(document.body).backgroundColor")
        text = page.run("return getComputedStyle(document.querySelector('.chart svg text')).fill")
        return paper, text

    page.open(wide_site / TRACK)
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


def test_charts_show_what_the_table_shows_and_its_pareto_front(page: Browser, wide_site: Path) -> None:
    page.open(wide_site / TRACK)
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


def test_a_point_tells_of_its_entry_and_leads_to_it(page: Browser, wide_site: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    page.open(wide_site / TRACK, "#q=other+backbone")
    draw(page)
    point = page.one(".chart .mark-symbol.role-mark path")
    ActionChains(page.driver).move_to_element(point).perform()
    page.wait("return !document.querySelector('.hint').hidden")
    hint = page.one(".hint").text
    assert "other backbone 1" in hint
    assert ".810" in hint
    point.click()
    page.wait("return location.href.endsWith('other-backbone-1.html')")


def test_where_nothing_fits_the_page_says_so(page: Browser, wide_site: Path) -> None:
    page.open(wide_site / TRACK)
    draw(page)
    page.one("input[type=search]").send_keys("nothing is called that")
    page.wait(f"{CHART} === 0")
    assert page.one("[role=status]").text == "None of 9 entries fits: change a filter, or show all."
    assert {box.text for box in page.all(".chart")} == {"No entry that fits has a final AUC."}
    assert page.faults() == []
    page.one("button[type=reset]").click()
    page.wait(f"{CHART} === 2")
    assert "of 8 entries" in page.one(".chart").get_attribute("aria-label")
    assert "No entry" not in page.one(".chart").text


def test_a_legend_fits_a_phone(page: Browser, wide_site: Path) -> None:
    page.screen(390)
    page.open(wide_site / TRACK)
    draw(page)
    beyond = """const box = document.querySelector('.chart').getBoundingClientRect();
        const texts = [...document.querySelectorAll('.chart')[0].querySelectorAll('.role-legend text')];
        return [texts.length, texts.filter((one) => one.getBoundingClientRect().right > box.right).length,
                texts.filter((one) => one.getBoundingClientRect().bottom > box.bottom).length]"""
    assert page.run(beyond) == [4, 0, 0]
