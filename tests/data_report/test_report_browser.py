"""The page on a dataset in a real browser: quiet, inert, no wider than a phone, and open to everyone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from img2brain.data_report.report import report_data
from tests.data_report.test_report import lab


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    report_data(lab(folder / "lab"), folder / "report.html")
    return folder / "report.html"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_page_is_quiet_fits_and_is_open_to_everyone(page: Path, browser: Any, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    noise: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    try:
        shown = context.new_page()
        shown.on("console", lambda message: noise.append(message.text))
        shown.on(
            "request", lambda asked: noise.append(asked.url) if not asked.url.startswith(("file:", "data:")) else 0
        )
        shown.goto(page.as_uri())
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        assert shown.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        lightness = shown.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
        assert (lightness > 128) == (scheme == "light"), "the style is applied"
        assert shown.locator("#evil, main script").count() == 0
        assert noise == []
        found = axe.run(shown, options={"preload": False}).response["violations"]
        bad = [
            (each["id"], each["nodes"][0]["html"][:200]) for each in found if each["impact"] in ("serious", "critical")
        ]
        assert bad == []
    finally:
        context.close()
