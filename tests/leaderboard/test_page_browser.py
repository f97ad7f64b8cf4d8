"""The pages in a real browser: quiet, sortable, filterable, inert."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain.leaderboard import figures
from img2brain.leaderboard.drawing import write_page
from img2brain.leaderboard.page import build
from img2brain.leaderboard.rows import Row
from tests.leaderboard.conftest import MakeRow
from tests.leaderboard.test_figures import R

if TYPE_CHECKING:
    from tests.conftest import Finished

EVIL = '"><img src=x onerror="document.title=1"><script>document.title=2</script><b id=evil>'


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a file in a fresh context, and check afterwards that it was quiet and asked for nothing."""
    noise: list[str] = []
    contexts: list[Any] = []

    def open_file(path: Path, **options: Any) -> Any:
        contexts.append(browser.new_context(**options))
        contexts[-1].set_default_timeout(10_000)
        page = contexts[-1].new_page()
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("dialog", lambda dialog: noise.append(dialog.message))
        page.on("request", lambda request: noise.append(request.url) if _is_outside(request.url, path) else None)
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert noise == []


def _is_outside(url: str, path: Path) -> bool:
    return url != path.as_uri() and not url.startswith(("data:", "blob:"))


def _rows(make_row: MakeRow) -> list[Row]:
    return [
        make_row(number=0, score=0.3, layer="features.12", alpha=None, regressor="linear"),
        make_row(number=1, score=0.2, layer="features.9", alpha=1e6, champion=True, registered="m v1"),
        make_row(number=2, score=-0.1, layer=EVIL, weights=EVIL, study=EVIL, dataset={"name": EVIL}, alpha=20.0),
    ]


def _trials(page: Any) -> list[int]:
    """The trials that can be seen, from top to bottom."""
    names = page.locator("tbody tr:visible td:last-child > span:first-child").all_text_contents()
    return [int(name.rsplit("#", 1)[1]) for name in names]


@pytest.fixture
def site(make_row: MakeRow, tmp_path: Path) -> Path:
    """A leaderboard of three trials, one of them hostile."""
    return build(_rows(make_row), tmp_path)[1]


def test_sorting(site: Path, visit: Callable[..., Any]) -> None:
    page = visit(site)
    for name, orders in {
        "Validation Pearson r, median": [[0, 1, 2], [2, 1, 0]],
        "Alpha": [[2, 1, 0], [1, 2, 0]],  # the one without a number is last either way
        "Rank": [[0, 1, 2], [2, 1, 0]],
        "Trial": [[2, 0, 1], [1, 0, 2]],
    }.items():
        for expected in orders:
            page.get_by_role("button", name=name, exact=True).click()
            assert _trials(page) == expected, name
    assert page.locator("th[aria-sort]").all_text_contents() == ["Trial"]


def test_filter(site: Path, visit: Callable[..., Any]) -> None:
    page = visit(site)
    for words, expected in {"RIDGE": [1, 2], "features.9 ridge": [1], "nothing": [], "": [0, 1, 2]}.items():
        page.get_by_role("searchbox").fill(words)
        assert _trials(page) == expected
    assert page.locator("output").inner_text() == "3 of 3 trials"


def test_published_models_are_not_counted_as_trials(finished: Finished, visit: Callable[..., Any]) -> None:
    page = visit(finished.home / "leaderboards" / "sample" / "index.html")
    n_trials = sum(trial.succeeded for trial in finished.outcome.trials)
    assert page.locator("table.plain tbody tr").count() >= 1
    assert page.locator("output").inner_text() == f"{n_trials} of {n_trials} trials"
    assert page.get_by_role("heading", name="Trials").count() == 1


def test_hostile_names_are_only_text(site: Path, visit: Callable[..., Any]) -> None:
    page = visit(site)
    assert page.title() == "Leaderboard"
    assert page.locator("#evil, main img, main script").count() == 0
    assert page.get_by_text(EVIL).count() >= 3


def test_policy_stops_an_inline_script(site: Path, browser: Any) -> None:
    html = site.read_text(encoding="utf-8").replace("</main>", "<script>document.title = 1</script></main>")
    site.write_text(html, encoding="utf-8")
    page = browser.new_page()
    page.goto(site.as_uri())
    assert page.title() == "Leaderboard"
    page.close()


def test_readable_without_script(site: Path, visit: Callable[..., Any]) -> None:
    page = visit(site, java_script_enabled=False)
    assert _trials(page) == [0, 1, 2]
    assert page.get_by_role("searchbox").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_needs_no_sideways_scrolling(site: Path, visit: Callable[..., Any], scheme: str) -> None:
    page = visit(site, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    lightness = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (lightness > 128) == (scheme == "light")


def test_figures_draw_without_a_network(tmp_path: Path, visit: Callable[..., Any]) -> None:
    figure = figures.accuracy_histogram({EVIL: np.linspace(-0.2, 0.6, 50)}, R)
    page = visit(write_page([figure, figures.parameter_importances({"layer": 1.0})], tmp_path / "figure.html"))
    page.wait_for_selector(".figure:nth-of-type(2) .bars path")
    assert page.locator(".figure:nth-of-type(1) .bars path").count() == 41
    assert page.title() == "Accuracy of the voxels"
    assert page.get_by_text(EVIL).count() == 1
