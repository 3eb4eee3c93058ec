"""A real browser without a window, that sees every request and every complaint of a page."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pytest

REQUIRED: Final = "RETUNE_REQUIRE_BROWSER"
FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)
COMPLAINTS: Final = """
window.complaints = [];
document.addEventListener("securitypolicyviolation", (e) => complaints.push(e.violatedDirective + " " + e.blockedURI));
addEventListener("error", (e) => complaints.push(String(e.message)));
addEventListener("unhandledrejection", (e) => complaints.push(String(e.reason)));
"""
CHART: Final = "return document.querySelectorAll('.chart svg').length"
SHOWN: Final = """return [...document.querySelectorAll('table.rows tbody tr')]
    .filter((row) => row.getClientRects().length).map((row) => row.querySelector('th a').textContent)"""
"""Names in rows that can be seen, from top to bottom."""


def require_browser() -> None:
    """Skip where there is no browser; fail where one must be."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    missing += [name for name in ("selenium", "selenium_axe_python") if find_spec(name) is None]
    if not missing:
        return
    told = f"needs {' and '.join(missing)}"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(told)
    pytest.skip(told)


class Browser:
    """Chromium under a driver."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.requests: list[str] = []

    def open(self, address: str | Path, part: str = "") -> None:
        """Load a page anew: a file's or an address."""
        self.driver.get("about:blank")
        self.driver.get((address.as_uri() if isinstance(address, Path) else address) + part)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page as a driver does, which no policy of the page's forbids."""
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[Any]:
        """Elements of the page."""
        found: list[Any] = self.driver.find_elements("css selector", selector)
        return found

    def one(self, selector: str) -> Any:
        """The first element."""
        return self.driver.find_element("css selector", selector)

    def wait(self, script: str, seconds: float = 20) -> Any:
        """Wait until a script says something true."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: self.run(script))

    def screen(self, width: int, height: int = 900, *, theme: str = "light") -> None:
        """Another width and another preference of light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        wish = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wish)

    def keys(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def asked(self) -> list[str]:
        """Every address that was asked for since this was last called."""
        found = []
        for line in self.driver.get_log("performance"):
            event = json.loads(line["message"])["message"]
            if event["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                params = event["params"]
                found.append(params["request"]["url"] if "request" in params else params["url"])
        return [address for address in found if address != "about:blank"]

    def complaints(self) -> list[str]:
        """What the page has complained about: the console, errors, violations of its policy."""
        console = [line["message"] for line in self.driver.get_log("browser")]
        return [*console, *(self.run("return window.complaints") or [])]

    def faults(self) -> list[str]:
        """What axe finds serious or critical."""
        import selenium_axe_python

        source = Path(selenium_axe_python.__file__).parent / "axe-core" / "axe.min.js"
        self.run(source.read_text(encoding="utf-8"))
        # Preloading would ask for the style sheet again, which the page's policy forbids.
        options = "{ resultTypes: ['violations'], preload: false }"
        found = self.driver.execute_async_script(f"axe.run({options}).then(arguments[arguments.length - 1])")
        return [
            f"{v['id']}: {node['html'][:200]}"
            for v in found["violations"]
            if v["impact"] in ("serious", "critical")
            for node in v["nodes"]
        ]


@contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    """Start a browser with a profile of its own, and end it."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": COMPLAINTS})
        yield Browser(driver)
    finally:
        driver.quit()


def choose(page: Browser, name: str, value: str) -> None:
    """Filter the table."""
    from selenium.webdriver.support.ui import Select

    Select(page.one(f"select[name={name}]")).select_by_value(value)


def draw(page: Browser) -> None:
    """Come to the charts."""
    page.run("document.querySelector('.charts').scrollIntoView()")
    page.wait(f"{CHART} === 2")
