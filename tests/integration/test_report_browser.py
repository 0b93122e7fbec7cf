"""The report in headless Chromium: draws, asks for nothing, filters by click, and no text of a model runs.

Skipped where there is no Chromium with its driver (``make browser`` installs them where it may).
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from report_stores import ATTACKS, hostile, two_methods

from specs_eval.cli import main

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")

webdriver = pytest.importorskip("selenium.webdriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with chromedriver here: make browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


def write(folder: Path, store: Path) -> Path:
    page = folder / "report.html"
    result = CliRunner().invoke(main, ["report", "--store", str(store), "-o", str(page), "--bootstrap", "200"])
    assert result.exit_code == 0, result.output
    return page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    return write(folder, two_methods(folder / "runs"))


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attacked")
    return write(folder, hostile(folder / "runs"))


SCROLL = """
const done = arguments[arguments.length - 1];
(async () => {
  for (let y = 0; y < document.documentElement.scrollHeight; y += 500) {
    scrollTo(0, y);
    await new Promise((next) => setTimeout(next, 60));
  }
  scrollTo(0, 0);
  done(document.querySelectorAll(".js-plotly-plot .main-svg").length > 0);
})();
"""
READY = "const done = arguments[0]; const wait = () => document.getElementById('browser').hidden ? setTimeout(wait, 20) : done(1); wait();"


def show(browser: Any, page: Path, width: int = 1400, *, dark: bool = False) -> None:
    """Open a page at a width, with its samples unpacked."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [scheme]})
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(page.as_uri())
    browser.execute_async_script(READY)


def complaints(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]


def requests(browser: Any) -> set[str]:
    """Everything that the page asked for, but for data inside the page itself."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"}
    return {url for url in urls if not url.startswith(("data:", "blob:"))}


def shown(browser: Any) -> tuple[int, int]:
    """Samples that pass the filters, and samples in the page."""
    text = browser.execute_script("return document.getElementById('filter-count').textContent")
    return tuple(map(int, re.findall(r"\d+", text)))  # type: ignore[return-value]


def choose(browser: Any, control: str, value: str) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element(By.ID, control)).select_by_value(value)


def test_it_draws_everything_and_asks_for_nothing(browser: Any, page: Path) -> None:
    show(browser, page)
    assert browser.execute_async_script(SCROLL)
    drawn, wanted = browser.execute_script(
        "return [document.querySelectorAll('.js-plotly-plot').length, document.querySelectorAll('.canvas').length]"
    )
    assert drawn == wanted > 12
    offered = browser.execute_script(
        "return [...document.querySelectorAll('.modebar-btn')].map((one) => one.dataset.title)"
    )
    assert set(offered) == {"Download plot as a PNG", "Zoom", "Pan", "Reset axes"}, "none that sends figures away"
    assert complaints(browser) == [] and requests(browser) == {page.as_uri()}


@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_sticks_out(browser: Any, page: Path, width: int) -> None:
    show(browser, page, width)
    browser.execute_async_script(SCROLL)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    small = browser.execute_script(
        "return [...document.querySelectorAll('button, select, input')].filter((one) => one.offsetHeight && one.offsetHeight < 24).length"
    )
    assert small == 0, "every control is large enough to touch"


def test_filters_work_by_click(browser: Any, page: Path) -> None:
    from selenium.webdriver.common.by import By

    show(browser, page)
    everything = shown(browser)
    assert everything == (120, 120)
    choose(browser, "filter-task", "easyvqa_formats_ood")
    assert shown(browser) == (80, 120)
    choose(browser, "filter-category", "format: json")
    assert shown(browser) == (40, 120)
    choose(browser, "filter-tag", "flipped")
    flipped = shown(browser)[0]
    tags = browser.execute_script(
        "return [...document.querySelectorAll('#sample-list li')].map((li) => li.textContent)"
    )
    assert 0 < flipped < 40 and len(tags) == flipped and all("flipped" in one for one in tags)
    choose(browser, "filter-task", "")
    choose(browser, "filter-category", "")
    choose(browser, "filter-tag", "failed")
    assert shown(browser) == (1, 120)
    assert "no score" in browser.find_element(By.ID, "sample").text
    choose(browser, "filter-tag", "")
    browser.find_element(By.ID, "filter-text").send_keys("nothing like this")
    assert shown(browser) == (0, 120) and "No sample passes" in browser.find_element(By.ID, "sample").text


def test_two_checkpoints_side_by_side(browser: Any, page: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    show(browser, page)

    def sides() -> list[str]:
        return [
            Select(one).first_selected_option.text for one in browser.find_elements(By.CSS_SELECTOR, ".side select")
        ]

    tags = browser.find_element(By.CSS_SELECTOR, "#sample .tags").text
    assert sides()[0] == "base" and sides()[1] in ("dpo 20", "sft 20") and tags, (
        "the first sample shows where it flipped"
    )
    Select(browser.find_elements(By.CSS_SELECTOR, ".side select")[1]).select_by_visible_text("sft 5")
    assert sides()[1] == "sft 5"
    buttons = browser.find_elements(By.CSS_SELECTOR, "#sample-list button")
    buttons[3].click()
    assert sides()[1] == "sft 5", "the choice stays from sample to sample"
    assert buttons[3].get_attribute("aria-current") == "true"
    text = browser.find_element(By.ID, "sample").text
    for said in ("Right answer: gold", "rule: test", "extracted answer: "):
        assert said in text


def test_the_list_goes_by_arrow_keys(browser: Any, page: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    show(browser, page)
    first = browser.find_element(By.CSS_SELECTOR, "#sample-list button")
    first.send_keys(
        Keys.ARROW_DOWN,
    )
    browser.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    current = browser.execute_script(
        "return [...document.querySelectorAll('#sample-list button')].findIndex((one) => one.ariaCurrent === 'true')"
    )
    assert current == 2


def test_a_method_is_switched_in_every_figure(browser: Any, page: Path) -> None:
    from selenium.webdriver.common.by import By

    show(browser, page)
    browser.execute_async_script(SCROLL)
    hidden = """return [...document.querySelectorAll('.js-plotly-plot')].flatMap((one) => one.data)
        .filter((trace) => trace.legendgroup === 'sft').map((trace) => trace.visible)"""
    assert set(browser.execute_script(hidden)) <= {None, True}
    button = browser.find_element(By.CSS_SELECTOR, "button[data-method='sft']")
    button.click()
    assert set(browser.execute_script(hidden)) == {False} and button.get_attribute("aria-pressed") == "false"
    button.click()
    assert set(browser.execute_script(hidden)) == {True}


def test_light_dark_and_paper(browser: Any, page: Path) -> None:
    from selenium.webdriver.common.by import By

    ground = "return getComputedStyle(document.body).backgroundColor"
    show(browser, page, dark=True)
    assert browser.execute_script(ground) == "rgb(22, 24, 26)"
    browser.find_element(By.ID, "theme").click()
    assert browser.execute_script(ground) == "rgb(255, 255, 255)"
    browser.find_element(By.ID, "theme").click()
    assert browser.execute_script(ground) == "rgb(22, 24, 26)"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert browser.execute_script(ground) == "rgb(255, 255, 255)"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert pdf.startswith(b"%PDF") and 3 <= pdf.count(b"/Type /Page\n") + len(re.findall(rb"/Type\s*/Page\b", pdf)) < 60
    assert browser.execute_script("return document.querySelectorAll('.js-plotly-plot').length") > 12, (
        "printing draws all"
    )
    assert complaints(browser) == []


def test_what_a_screen_reader_needs(browser: Any, page: Path) -> None:
    show(browser, page)
    found = browser.execute_script(
        """const all = (what) => [...document.querySelectorAll(what)];
        return {
          headings: all('h1').length, main: all('main').length, language: document.documentElement.lang,
          scopes: all('th:not([scope])').length, captions: all('table:not(:has(caption))').length,
          figures: all('.canvas:not([aria-label])').length, images: all('img:not([alt])').length,
          labels: all('select, input').filter((one) => !one.labels.length).length,
          named: all('button').filter((one) => !(one.ariaLabel || one.textContent.trim())).length,
          levels: all('h1, h2, h3').map((one) => Number(one.tagName[1])),
          anchors: all('nav a').filter((one) => !document.querySelector(one.getAttribute('href'))).length,
          ids: all('[id]').length - new Set(all('[id]').map((one) => one.id)).size,
        }"""
    )
    levels = found.pop("levels")
    assert found.pop("headings") == found.pop("main") == 1 and found.pop("language") == "en"
    assert set(found.values()) == {0}, found
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), "no level is skipped"


def test_no_text_of_a_model_runs(browser: Any, attacked: Path) -> None:
    show(browser, attacked)
    browser.execute_async_script(SCROLL)
    n = browser.execute_script(
        """const buttons = [...document.querySelectorAll('#sample-list button')];
        buttons.forEach((button) => button.click());
        document.querySelectorAll('details').forEach((one) => { one.open = true; });
        return buttons.length"""
    )
    assert n == len(ATTACKS)
    browser.execute_async_script("setTimeout(arguments[0], 300)")
    assert browser.execute_script("return window.pwned") is None
    outside = """return [...document.querySelectorAll('main *, header *, nav *, .legend *')].filter((one) =>
        ['SCRIPT', 'IFRAME', 'LINK', 'STYLE', 'OBJECT', 'TEMPLATE'].includes(one.tagName)
        && !one.closest('.js-plotly-plot')
        || [...one.attributes].some((attribute) => attribute.name.startsWith('on'))
        || (one.tagName === 'A' && !one.getAttribute('href')?.startsWith('#') && !one.closest('.modebar'))
        || (one.tagName === 'IMG' && !one.src.startsWith('data:'))).map((one) => one.outerHTML.slice(0, 200))"""
    assert browser.execute_script(outside) == []
    assert complaints(browser) == [] and requests(browser) == {attacked.as_uri()}
    text = browser.execute_script("return document.body.innerText")
    assert "\u202e" not in text and "⟨U+202E⟩" in text and "<script>window.pwned" in text
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 1400


def test_hostile_texts_are_found_by_search_as_they_are(browser: Any, attacked: Path) -> None:
    from selenium.webdriver.common.by import By

    show(browser, attacked)
    browser.find_element(By.ID, "filter-text").send_keys("onerror='window")
    assert shown(browser) == (1, len(ATTACKS))
    pieces = browser.execute_script(
        "return [...document.querySelectorAll('#sample pre')].map((one) => one.childElementCount)"
    )
    assert pieces and set(pieces) == {0}, "texts are text nodes"
