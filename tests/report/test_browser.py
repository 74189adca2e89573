"""The page in a real browser: nothing fetched, nothing thrown, sorted by a click, as wide as the screen."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser_support import Browser

FIRST_COLUMN = "[...document.querySelectorAll('#table table.sortable tbody tr')].map((row) => row.cells[0].textContent)"
HEAD = "document.querySelector('#table table.sortable').tHead.rows[0].cells[{}]"


@pytest.mark.parametrize("dark", [False, True])
def test_it_opens_without_a_word_and_asks_nobody(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, dark=dark)
    assert browser.value("document.readyState") == "complete"
    said = browser.of("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    assert said == []
    asked = [one["request"]["url"] for one in browser.of("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [page.resolve().as_uri()]
    assert browser.of("Network.loadingFailed") == []


def test_the_policy_stops_what_ours_does_not_allow(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.value(
        "(() => { window.ran = false; const one = document.createElement('script'); one.textContent = 'window.ran = true';"
        " document.body.append(one); const two = new Image(); two.src = 'file:///etc/hostname'; document.body.append(two); })()"
    )
    assert browser.value("window.ran") is False
    blocked = [one["entry"]["text"] for one in browser.of("Log.entryAdded")]
    assert any("Content Security Policy" in text for text in blocked)


def test_a_name_made_of_markup_is_shown_and_no_dialog_opens(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.value("document.querySelector('h1').textContent").startswith("<script>alert(1)</script>")
    assert browser.value("document.querySelectorAll('script').length") == 1
    assert browser.of("Page.javascriptDialogOpening") == []


@pytest.mark.parametrize("width", [1280, 390])
def test_every_figure_has_a_size_and_the_page_never_scrolls_sideways(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    assert browser.value("document.documentElement.scrollWidth") == width
    assert browser.value("window.innerWidth") == width
    sizes = browser.value(
        "[...document.querySelectorAll('figure svg')].map((one) => one.getBoundingClientRect())"
        ".map((box) => [box.width, box.height])"
    )
    assert len(sizes) > 20
    assert all(wide > 200 and high > 80 for wide, high in sizes)
    images = browser.value(
        "[...document.querySelectorAll('svg image')].map((one) => one.getBoundingClientRect().width)"
    )
    assert images
    assert all(wide > 10 for wide in images)


def test_a_click_on_a_head_sorts_and_another_turns_it_round(browser: Browser, page: Path) -> None:
    browser.open(page)
    before = browser.value(FIRST_COLUMN)
    losses = (
        "[...document.querySelectorAll('#table table.sortable')[0].tBodies[0].rows]"
        ".map((row) => Number(row.cells[3].dataset.value))"
    )
    assert browser.value(f"{HEAD.format(3)}.getAttribute('aria-sort')") == "none"
    browser.value(f"{HEAD.format(3)}.querySelector('button').click()")
    rising = browser.value(losses)
    assert rising == sorted(rising)
    assert browser.value(f"{HEAD.format(3)}.getAttribute('aria-sort')") == "ascending"
    browser.value(f"{HEAD.format(3)}.querySelector('button').click()")
    assert browser.value(losses) == sorted(rising, reverse=True)
    assert sorted(browser.value(FIRST_COLUMN)) == sorted(before)


def test_what_is_not_known_stays_last_whichever_way_it_is_sorted(browser: Browser, page: Path) -> None:
    browser.open(page)
    column = "[...document.querySelectorAll('#table table.sortable')[0].tBodies[0].rows].map((row) => row.cells[4].textContent)"
    for _ in range(2):
        browser.value(f"{HEAD.format(4)}.querySelector('button').click()")
        assert browser.value(column)[-1] == "–", "the baseline has no difference to itself"


def test_a_head_is_reached_and_pressed_with_the_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.value(f"{HEAD.format(3)}.querySelector('button').focus()")
    for kind in ("keyDown", "keyUp"):
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r" if kind == "keyDown" else ""}
        browser.call("Input.dispatchKeyEvent", type=kind, **key)
    assert browser.value(f"{HEAD.format(3)}.getAttribute('aria-sort')") == "ascending"


def test_without_scripts_all_of_it_is_there(browser: Browser, page: Path) -> None:
    browser.open(page, script=False)
    assert browser.value("document.querySelectorAll('th button').length") == 0
    assert len(browser.value(FIRST_COLUMN)) == 11, "the table and that of the pairs"
    assert "is better" in browser.value("document.querySelector('.answer').textContent")
    assert browser.value("document.querySelectorAll('figure svg').length") > 20


def test_ink_follows_the_colour_scheme(browser: Browser, page: Path) -> None:
    colour = "getComputedStyle(document.querySelector('#answer figure svg text')).fill"
    paper = "getComputedStyle(document.body).backgroundColor"
    found = []
    for dark in (False, True):
        browser.open(page, dark=dark)
        found.append((browser.value(colour), browser.value(paper)))
    (ink, light), (chalk, night) = found
    assert _brightness(ink) < 80 < 200 < _brightness(light)
    assert _brightness(night) < 40 < 200 < _brightness(chalk)


def _brightness(colour: str) -> float:
    parts = [float(part) for part in colour.strip("rgba()").split(",")[:3]]
    return sum(parts) / 3
