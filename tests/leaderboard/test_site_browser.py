"""The site in a real browser: quiet, sortable, filterable, inert, and open to everyone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain.leaderboard import figures
from img2brain.leaderboard.drawing import write_page
from img2brain.leaderboard.published import with_places
from img2brain.leaderboard.rows import Row
from img2brain.leaderboard.site.build import build
from img2brain.records import Estimate, MemberRecord, StudyRecord
from img2brain.statistics.bootstrap import Summaries
from tests.leaderboard.conftest import MakeRow, against, confirmation_of, region_record, trial_record
from tests.leaderboard.test_figures import R

if TYPE_CHECKING:
    from tests.conftest import Finished

Visit = Callable[..., Any]
EVIL = '"><img src=x onerror="document.title=1"><script>document.title=2</script><b id=evil>'
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    """Open a file in a fresh context, and check afterwards that it was quiet and asked for files beside it alone."""
    noise: list[str] = []
    contexts: list[Any] = []

    def open_file(path: Path, address: str = "", **options: Any) -> Any:
        contexts.append(browser.new_context(**options))
        contexts[-1].set_default_timeout(10_000)
        page = contexts[-1].new_page()
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("dialog", lambda dialog: noise.append(dialog.message))
        page.on("requestfailed", lambda request: noise.append(request.url))
        page.on("request", lambda request: noise.append(request.url) if _is_outside(request.url) else None)
        page.goto(path.as_uri() + address)
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert noise == []


def _is_outside(url: str) -> bool:
    return not url.startswith(("file:", "data:", "blob:"))


def _rows(make_row: MakeRow) -> list[Row]:
    return [
        make_row(number=0, score=0.3, layer="features.12", alpha=None, regressor="linear"),
        make_row(number=1, score=0.2, layer="features.9", alpha=1e6, champion=True, registered="m v1"),
        make_row(number=2, score=-0.1, layer=EVIL, weights=EVIL, study=EVIL, alpha=20.0),
    ]


def published(number: int, score: float, **changes: Any) -> Row:
    """A row that was published, with a region and controls."""
    trial = trial_record(number=number, score=score + 0.01, **changes)
    controls = {name: against(value, 0.2) for name, value in (("untrained", 0.1), ("pixels", 0.05), ("shuffled", 0.0))}
    whole = region_record(score, controls=controls)
    confirmation = confirmation_of(trial, whole, {"V1": region_record(0.5 - score, 40, controls=controls)})
    return Row(run_id=f"{number:032x}", trial=trial, confirmation=confirmation)


def _trials(page: Any) -> list[int]:
    """The trials that can be seen, from top to bottom, by their layers."""
    layers = page.locator("table.trials tbody tr:visible td:nth-child(5)").all_text_contents()
    return [{"features.12": 0, "features.9": 1}.get(layer, 2) for layer in layers]


@pytest.fixture
def site(make_row: MakeRow, tmp_path: Path) -> Path:
    """A leaderboard of three trials, one of them hostile."""
    return build(_rows(make_row), tmp_path)[0]


@pytest.fixture
def two_boards(tmp_path: Path) -> Path:
    """Two data sets, the first with 25 published rows."""
    first = [published(number, 0.4 - number / 100) for number in range(25)]
    other = [published(number, 0.2, dataset={"name": "v4 other", "digest": "e" * 64}) for number in range(2)]
    return build([*first, *other], tmp_path)[0]


def test_sorting(site: Path, visit: Visit) -> None:
    page = visit(site, viewport=WIDE)
    page.locator("summary", has_text="Columns").click()
    page.get_by_label("Alpha").check()
    page.locator("summary", has_text="Columns").click()
    for name, orders in {
        "Validation Pearson r, median": [[0, 1, 2], [2, 1, 0]],
        "Alpha": [[2, 1, 0], [1, 2, 0]],  # the one without a number is last either way
        "Rank": [[0, 1, 2], [2, 1, 0]],
        "Layer": [[2, 1, 0], [0, 1, 2]],
    }.items():
        for expected in orders:
            page.get_by_role("button", name=name).press("Enter")
            assert _trials(page) == expected, name
    assert page.locator("th[aria-sort]").all_text_contents() == ["Layer"]
    again = visit(site, page.evaluate("location.hash"), viewport=WIDE)
    assert _trials(again) == [0, 1, 2], "the order is kept in the address"
    assert again.get_by_role("button", name="Alpha").is_visible(), "so are the columns"


def test_filters_are_kept_in_the_address(site: Path, visit: Visit) -> None:
    page = visit(site, viewport=WIDE)
    for words, expected in {
        "RIDGE": [1, 2],
        "features.9 ridge": [1],
        "score > .1": [0, 1],
        "validation>=0.2 regressor:rid": [1],
        "score<0": [2],
        "alpha != 20": [1],
        'layer = "features.12"': [0],
        "regressor != linear": [1, 2],
        "nothing": [],
        "": [0, 1, 2],
    }.items():
        page.get_by_role("searchbox").fill(words)
        assert _trials(page) == expected, words
    assert page.locator("output").inner_text() == "3 of 3 trials"
    page.get_by_role("searchbox").fill("score > .25")
    assert _trials(visit(site, page.evaluate("location.hash"), viewport=WIDE)) == [0]


@pytest.mark.parametrize(
    ("words", "told"),
    [("speed > 3", 'There is no column "speed".'), ("alpha > fast", 'The column "alpha" holds numbers.')],
)
def test_a_filter_that_means_nothing_is_told(site: Path, visit: Visit, words: str, told: str) -> None:
    page = visit(site, viewport=WIDE)
    page.get_by_role("searchbox").fill(words)
    assert page.locator("output").inner_text().startswith(told)
    assert page.get_by_role("searchbox").get_attribute("aria-invalid") == "true"


def test_boards_and_regions_are_tabs_in_the_address(two_boards: Path, visit: Visit) -> None:
    page = visit(two_boards, viewport=WIDE)
    assert page.locator("section.board:visible").count() == 1
    page.get_by_role("searchbox").fill("score > .3")
    page.get_by_role("link", name="V1 40").press("Enter")
    assert page.get_by_role("searchbox").input_value() == "score > .3", "a region leaves the filter as it is"
    figure = page.locator("figure.forest:visible")
    assert figure.locator("figcaption").inner_text().startswith("Published models, V1")
    assert figure.locator("li:visible .value b").first.inner_text() == "0.340", "best first in the region, too"
    page.get_by_role("link", name="v4 other Pearson r").click()
    assert page.locator("section.board:visible h2").inner_text() == "v4 other"
    assert page.locator("section.board:visible tbody tr:visible").count() == 2
    page.go_back()
    assert page.locator("figure.forest:visible figcaption").inner_text().startswith("Published models, V1")


def test_long_lists_show_twenty_and_then_all(two_boards: Path, visit: Visit) -> None:
    page = visit(two_boards, viewport=PHONE)
    rows = page.locator("figure.forest:visible .rows > li:visible"), page.locator("tbody tr:visible")
    assert [each.count() for each in rows] == [20, 20]
    tenth = rows[0].nth(9).bounding_box()
    assert tenth is not None
    assert tenth["y"] + tenth["height"] < 2 * PHONE["height"], "ten rows on the first two screens"
    page.get_by_role("button", name="Show all 25 models").click()
    page.get_by_role("button", name="Show all 25 trials").click()
    assert [each.count() for each in rows] == [25, 25]


def test_the_board_of_a_study_opens(finished: Finished, visit: Visit) -> None:
    page = visit(finished.home / "leaderboards" / "sample" / "index.html", viewport=WIDE)
    n_trials = sum(trial.succeeded for trial in finished.outcome.trials)
    assert page.locator("output").inner_text() == f"{n_trials} of {n_trials} trials"
    assert page.locator("figure.forest:visible .rows > li").count() == 1


def test_hostile_names_are_only_text(site: Path, visit: Visit) -> None:
    page = visit(site, viewport=WIDE)
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


def test_readable_without_script(two_boards: Path, visit: Visit) -> None:
    page = visit(two_boards, java_script_enabled=False, viewport=WIDE)
    assert page.locator("section.board:visible").count() == 2
    assert page.locator("tbody tr:visible").count() == 27
    assert page.get_by_role("searchbox").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_needs_no_sideways_scrolling(site: Path, visit: Visit, scheme: str) -> None:
    page = visit(site, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    lightness = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (lightness > 128) == (scheme == "light")


def of_parts(row: Row) -> Row:
    """The row, with its confirmation rows as the first of two named parts."""
    record, read, summaries = row.confirmation, row.arrays, row.summaries
    assert record is not None
    assert summaries is not None
    (part,) = record.parts.values()
    lower = part.model_copy(update={"rows": "others", "whole": region_record(row.confirmed_score - 0.1)})
    drop = Estimate(estimate=0.1, low=0.05, high=0.15)
    changes = {"parts": {"test": part, "ood <b>": lower}, "first": "test", "drops": {"ood <b>": drop}}
    resampled = {f"summaries_{key}.npy": array for key, array in summaries.to_arrays().items()}

    def array(name: str) -> Any:
        key = name.rpartition("/")[2]
        return resampled.get(key, read(f"confirmation/{key}" if "/" in name else name))

    return replace(row, confirmation=record.model_copy(update=changes), arrays=array)


def of_member(row: Row, name: str) -> Row:
    """The row as one of a member of a study of two."""
    read, summaries = row.arrays, row.summaries
    assert summaries is not None
    trial = row.trial.model_copy(update={"member": name})
    about = {each: MemberRecord(dataset=trial.dataset, rows=trial.rows) for each in ("ada", "bob")}
    study = StudyRecord(name=trial.study, dataset=trial.dataset, rows=trial.rows, code=trial.code, sampler="random",
                        seed=0, members=about, member=name)  # fmt: skip
    joint = {f"members/{key}.npy": array for key, array in summaries.to_arrays().items()}
    lower = {
        f"members/control_pixels_{key}.npy": joint[f"members/{key}.npy"] - 0.2 for key in ("estimate", "resampled")
    }
    return replace(row, trial=trial, study_record=study, arrays=lambda file: (joint | lower).get(file, read(file)))


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets that share models, with ties, regions, voxels and measured responses, and a row of another lab.

    The second has named parts of the confirmation rows. Two more are members of one study.
    """
    chance = np.random.default_rng(0)
    measured = chance.standard_normal((12, 3))

    def full(number: int, score: float, **changes: Any) -> Row:
        arrays = {
            "accuracy": chance.uniform(-0.2, 0.9, 100),
            "control_pixels_accuracy": chance.uniform(-0.3, 0.5, 100),
            "predictions": chance.standard_normal((12, 100)),
            "shown_voxels": np.array([4, 1, 0]),
            "shown_measured": measured,
        }
        drawn = score + 0.02 * chance.standard_normal((200, 2))
        summaries = Summaries(("", "V1"), np.array([score, score / 2]), drawn)
        files = {f"confirmation/{name}.npy": array for name, array in arrays.items()}
        return replace(published(number, score, **changes), arrays=files.get, summaries=summaries)

    other, weights = {"name": "v4 other", "digest": "e" * 64}, {"weights_digest": "v" * 64, "trained": "trained"}
    first = [full(0, 0.4, **weights), full(1, 0.39), full(2, 0.2, layer=EVIL, study=EVIL, weights=EVIL, backbone=EVIL)]
    second = [of_parts(full(3, 0.5, dataset=other, **weights)), of_parts(full(4, 0.3, dataset=other))]
    members = [of_member(full(5 + k, 0.4, dataset={"name": f"with {name}", "digest": name}), name)
               for k in range(2) for name in ("ada", "bob")]  # fmt: skip
    first[1] = replace(first[1], origin="another lab", verified="arithmetic")
    boards = [with_places(first), with_places(second), with_places(members[::2]), with_places(members[1::2])]
    return build([row for board in boards for row in board], tmp_path_factory.mktemp("rich"))[0].parent


def _pages(site: Path) -> list[tuple[Path, str]]:
    """All pages of a site, each view of the first one."""
    index = site / "index.html"
    boards = re.findall(r'data-board="([^"]*)"', index.read_text(encoding="utf-8"))
    rows = sorted((site / "rows").iterdir())
    compared = ",".join(re.findall(r'data-pick="([^"]*)"', index.read_text(encoding="utf-8"))[:2])
    views = [(index, f"#board={board}") for board in boards]
    parts = [(index, f"#board={board}&part=ood+%3Cb%3E") for board in boards if board.startswith("v4-other")]
    return [
        *views,
        *parts,
        (site / "compare.html", f"#{compared}"),
        *((path, "") for path in [*rows, *(site / "data").iterdir()]),
    ]


def test_models_are_chosen_and_compared_by_keyboard(rich: Path, visit: Visit) -> None:
    page = visit(rich / "index.html", viewport=WIDE)
    for box in page.get_by_role("checkbox", name=re.compile("Compare alexnet|Compare quick")).all()[:2]:
        box.press("Space")
    page.get_by_role("link", name="Compare 2 models").press("Enter")
    page.wait_for_selector("#result:not([hidden])")
    assert page.locator("#scores tbody tr").count() == 2
    assert page.locator("#differences tbody tr").count() == 1
    assert page.locator("#differences td").first.inner_text().startswith("+0.010 [")
    assert page.locator("#differences td").last.inner_text().endswith("tied")
    assert page.locator("#scatter path").get_attribute("d").count("M") == 100
    page.get_by_role("checkbox").nth(2).press("Space")
    assert page.locator("#differences tbody tr").count() == 3
    assert page.evaluate("document.activeElement.type") == "checkbox", "the focus stays"
    page.locator("#y").select_option(index=2)
    assert "scores higher in" in page.locator("#counted").inner_text()
    assert page.evaluate("location.hash").count(",") == 2, "the choice is kept in the address"


def test_parts_and_means_have_views_of_their_own(rich: Path, visit: Visit) -> None:
    page = visit(rich / "index.html", viewport=WIDE)
    page.get_by_role("link", name="v4 other Pearson r").click()
    shown = page.locator("figure.forest:visible .value b")
    assert shown.all_inner_texts() == ["0.500", "0.300"]
    page.get_by_role("link", name="ood <b>").click()
    assert shown.all_inner_texts() == ["0.400", "0.200"]
    assert page.locator("figure.forest:visible").get_by_text("less than on test by 0.100 [0.050, 0.150]").count() == 2
    page.get_by_role("link", name="V1 40").click()
    assert page.evaluate("new URLSearchParams(location.hash.slice(1)).get('part')") == "ood <b>"
    assert page.locator("figure.forest:visible").count() == 1
    page.get_by_role("link", name="Mean of 2 members").click()
    assert page.locator("section.across:visible tbody tr").count() == 4
    assert page.locator("figure.forest:visible .rows line.dataset").count() == 2 * 2


def test_models_of_other_images_are_not_compared(rich: Path, visit: Visit) -> None:
    names = re.findall(r'data-pick="([^"]*)"', (rich / "index.html").read_text(encoding="utf-8"))
    page = visit(rich / "compare.html", f"#{names[0]},{names[-1]},nobody", viewport=WIDE)
    assert page.locator("#told").inner_text().startswith("2 of the models are not here")
    assert not page.locator("#result").is_visible()


@pytest.mark.parametrize(
    ("viewport", "scheme"),
    [
        (WIDE, "light"),
        pytest.param(PHONE, "dark", marks=pytest.mark.slow),
        pytest.param(WIDE, "dark", marks=pytest.mark.slow),
        pytest.param(PHONE, "light", marks=pytest.mark.slow),
    ],
)
def test_every_page_is_quiet_fits_and_is_open_to_everyone(
    rich: Path, visit: Visit, viewport: dict[str, int], scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = []
    for path, address in _pages(rich):
        page = visit(path, address, viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], path
        assert page.locator("#evil, main img, main script").count() == 0
        assert page.evaluate("document.title") not in ("1", "2")
        told = axe.run(page, options={"preload": False}).response["violations"]
        found += [
            (path.name, address, each["id"], each["nodes"][0]["html"][:200])
            for each in told
            if each["impact"] in ("serious", "critical")
        ]
        page.close()
    assert found == []


def test_a_hundred_models_are_small_and_soon_there(make_row: MakeRow, visit: Visit, tmp_path: Path) -> None:
    rows = [published(number, 0.4 - number / 1000, layer=f"features.{number}") for number in range(100)]
    index, *others = build(rows, tmp_path)
    needed = [index, *(path for path in others if path.parent.name == "assets")]
    sizes = {path.name: path.stat().st_size for path in needed}
    assert sum(sizes.values()) < 1_000_000, sizes
    assert max(path.stat().st_size for path in others if path.parent.name == "rows") < 100_000
    page = visit(index, viewport=WIDE)
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    print(f"first paint after {paint:.0f} ms, {sum(sizes.values()) / 1e3:.0f} kB")  # noqa: T201
    assert page.locator("figure.forest:visible .rows > li:visible").count() == 20


def test_figures_draw_without_a_network(tmp_path: Path, visit: Visit) -> None:
    figure = figures.accuracy_histogram({EVIL: np.linspace(-0.2, 0.6, 50)}, R)
    page = visit(write_page([figure, figures.parameter_importances({"layer": 1.0})], tmp_path / "figure.html"))
    page.wait_for_selector(".figure:nth-of-type(2) .bars path")
    assert page.locator(".figure:nth-of-type(1) .bars path").count() == 41
    assert page.title() == "Accuracy of the voxels"
    assert page.get_by_text(EVIL).count() == 1
