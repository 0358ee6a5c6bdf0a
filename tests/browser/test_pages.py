"""Reports as people see them: light, dark, on paper, on a phone, and with a screen reader."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

KINDS = ("run", "sweep", "comparison", "gallery", "audit")
#: Pixels that the report of experiment 001 may have before anything is unfolded, by its width.
HEIGHTS = {1200: 3500, 360: 6000}
#: Elements that reach out of the page, where they do not scroll in a box of their own.
OVERFLOW = """() => [...document.querySelectorAll('body *')].filter(e => {
    if (e.closest('.scroll, pre, details:not([open])')) return false;
    const box = e.getBoundingClientRect();
    return box.width > 0 && (box.right > document.documentElement.clientWidth + 1 || box.left < -1);
}).map(e => e.tagName + ' ' + e.textContent.trim().slice(0, 60))"""
#: Headings in their order, as their levels.
LEVELS = "() => [...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(e => +e.tagName[1])"
#: Pictures are loaded when they come into view.
SEE_ALL = """async () => {
    for (const image of document.images) {
        image.scrollIntoView();
        await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
        await image.decode().catch(() => {});
    }
}"""
IMAGES = """() => [...document.images].map(i => [i.complete && i.naturalWidth > 0, i.alt])"""
#: Text of less than the contrast that WCAG AA asks for is found by axe; this is for plots.
FIGURES = (
    "() => [...document.querySelectorAll('.figure img')].map(i => i.getBoundingClientRect().width)"
)


@pytest.fixture(params=KINDS)
def page_path(request: pytest.FixtureRequest, pages: dict[str, Path]) -> Path:
    """Return each kind of page in turn."""
    return pages[request.param]


@pytest.mark.parametrize("width", [1100, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_whole_by_itself(browser: Any, page_path: Path, scheme: str, width: int) -> None:
    """No error, no request, nothing out of the page, every image there with its text."""
    address = page_path.as_uri()
    with browser.open(address, width=width, color_scheme=scheme) as seen:
        page = seen.page
        assert page.evaluate(OVERFLOW) == []
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        page.evaluate(SEE_ALL)
        page.wait_for_load_state("networkidle")
        for there, alt in page.evaluate(IMAGES):
            assert there
            assert len(alt) > 10
        levels = page.evaluate(LEVELS)
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(b - a <= 1 for a, b in pairwise(levels)), levels
        near = page_path.parent.as_uri()  # the gallery shows the figures of the runs beside it
        assert [url for url in seen.requests if not url.startswith(("data:", near))] == []
        assert seen.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, page_path: Path, scheme: str) -> None:
    """All rules of axe-core, with everything unfolded; contrast is among them."""
    from axe_playwright_python.sync_playwright import Axe

    with browser.open(page_path.as_uri(), color_scheme=scheme) as seen:
        seen.page.evaluate("() => document.querySelectorAll('details').forEach(d => d.open = true)")
        found = Axe().run(seen.page).response
        assert len(found["passes"]) > 15  # it did look
        serious = [
            f"{v['id']}: {v['help']}: {v['nodes'][0]['html'][:120]} ({len(v['nodes'])})"
            for v in found["violations"]
            if v["impact"] in ("serious", "critical", "moderate")
        ]
        assert serious == []


def test_axe_would_find_a_fault(browser: Any, tmp_path: Path) -> None:
    """Grey on white, and an image without a text: the check above can fail."""
    from axe_playwright_python.sync_playwright import Axe

    path = tmp_path / "bad.html"
    path.write_text(
        "<!doctype html><html lang=en><title>t</title><main><h1>t</h1>"
        "<p style='color:#bbb'>Hardly to be read</p>"
        "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='></main>"
    )
    with browser.open(path.as_uri()) as seen:
        found = {v["id"] for v in Axe().run(seen.page).response["violations"]}
    assert {"color-contrast", "image-alt"} <= found


def test_a_page_prints_on_a4(browser: Any, page_path: Path, tmp_path: Path) -> None:
    """Nothing reaches out of the paper, and no dark ground is printed."""
    with browser.open(page_path.as_uri(), color_scheme="dark") as seen:
        page = seen.page
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 688, "height": 1000})  # A4 less its margins, at 96 dpi
        assert page.evaluate(OVERFLOW.replace("if (e.closest", "if (false && e.closest")) == []
        assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") in (
            "rgb(255, 255, 255)",
            "rgba(0, 0, 0, 0)",
        )
        pdf = page.pdf(prefer_css_page_size=True)
        assert pdf.startswith(b"%PDF")


def test_a_page_is_read_by_keyboard(browser: Any, page_path: Path) -> None:
    """Boxes that scroll can be reached, and what is folded opens with a key."""
    with browser.open(page_path.as_uri(), width=360) as seen:
        page = seen.page
        boxes = page.evaluate(
            "() => [...document.querySelectorAll('.scroll')]"
            ".map(b => [b.tabIndex, !!b.getAttribute('aria-label')])"
        )
        assert all(index == 0 and named for index, named in boxes)
        folded = page.locator("summary")
        if folded.count():
            folded.first.focus()
            page.keyboard.press("Enter")
            assert page.locator("details[open]").count() >= 1


def test_plots_can_be_read_on_a_phone(browser: Any, pages: dict[str, Path]) -> None:
    """Closed, a plot is as wide as the page; opened, it keeps its size, and its box scrolls."""
    with browser.open(pages["run"].as_uri(), width=360) as seen:
        widths = seen.page.evaluate(FIGURES)
        assert len(widths) >= 6
        assert min(widths) >= 280
        seen.page.locator(".figure summary").first.click()
        assert max(seen.page.evaluate(FIGURES)) >= 560
        assert seen.page.evaluate("() => document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", HEIGHTS)
def test_the_report_is_short(browser: Any, pages: dict[str, Path], width: int, scheme: str) -> None:
    """The answer is seen without scrolling, and the page is short before anything is unfolded."""
    with browser.open(pages["run"].as_uri(), width=width, color_scheme=scheme) as seen:
        page = seen.page
        assert page.evaluate("() => document.documentElement.scrollHeight") < HEIGHTS[width]
        answer = page.locator(".answer")
        assert answer.inner_text().startswith("Partly supported. Generation time: yes, ")
        box = answer.bounding_box()
        assert box["y"] + box["height"] < 600


def test_a_plot_follows_the_colour_scheme(browser: Any, pages: dict[str, Path]) -> None:
    """Its ground is light on a light page, and dark on a dark one."""
    ground = """async () => {
        const image = document.querySelector('.figure img');
        await image.decode();
        const canvas = Object.assign(document.createElement('canvas'), {width: 40, height: 40});
        const pen = canvas.getContext('2d');
        pen.drawImage(image, 0, 0, 40, 40);
        return [...pen.getImageData(0, 39, 1, 1).data.slice(0, 3)];
    }"""
    found = {}
    for scheme in ("light", "dark"):
        with browser.open(pages["run"].as_uri(), color_scheme=scheme) as seen:
            found[scheme] = sum(seen.page.evaluate(ground))
    assert found["light"] > 3 * 200
    assert found["dark"] < 3 * 60


def test_a_topic_opens_by_its_link(browser: Any, pages: dict[str, Path]) -> None:
    """Each entry of the table of contents leads to what it names, unfolded."""
    with browser.open(pages["run"].as_uri()) as seen:
        links = seen.page.locator("nav.contents a")
        assert links.count() >= 8
        for number in range(links.count()):
            target = links.nth(number).get_attribute("href")
            links.nth(number).click()
            assert seen.page.locator(target).is_visible(), target


def test_the_gallery_is_filtered_and_sorted(browser: Any, pages: dict[str, Path]) -> None:
    """By words and by the answer; two that are ticked give the command that compares them."""
    with browser.open(pages["gallery"].as_uri()) as seen:
        page = seen.page
        cards = page.locator(".cards li:visible")
        every = cards.count()
        assert every >= 3
        page.fill("#words", "001-baseline")
        assert cards.count() == 1
        page.fill("#words", "")
        page.select_option("#verdict", "partly")
        assert 1 <= cards.count() < every
        page.select_option("#verdict", "")
        ticks = page.locator(".tick")
        ticks.nth(0).check()
        ticks.nth(1).check()
        assert page.locator("#pair").inner_text().startswith("fleetsim compare ")
        assert seen.errors == []
