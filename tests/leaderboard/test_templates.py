"""The templates of pages: nothing of others is markup, whatever it says and wherever it is shown."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2 import nodes

import img2brain
from img2brain.leaderboard.rows import Row, printable
from img2brain.leaderboard.site.build import build
from img2brain.leaderboard.site.templating import ENVIRONMENT, TEMPLATES, render
from tests.leaderboard.conftest import against, confirmation_of, make, region_record, trial_record

EVIL = "\"'><script>alert(1)</script>\x1b[2J\u202e{{ 7 * 7 }}{% raw %}&lt;\n`"
REPORT = Path(img2brain.__file__).parent / "data_report" / "templates" / "report.html"
OURS = {"figure.html": {"script"}, "report.html": {"style"}}
FILTERS = {"address", "at", "counted", "join", "length", "number", "short"}
EMPTY = {"meta", "link", "input"}

Skeleton = list[tuple[str, list[str]]]


class Parsed(HTMLParser):
    """A page as a browser takes it: its elements with the names of their attributes, and all that is text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.skeleton: Skeleton = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.depth = 0
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.depth += tag not in EMPTY
        self.skeleton.append((tag, [name for name, _ in attrs]))
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.depth -= 1

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def board(name: str) -> list[Row]:
    """A champion of which every name is the same, published with controls and regions of this name."""
    texts = ("backbone", "weights", "trained", "layer", "regressor", "study", "preprocessing", "note")
    where = {"dataset": {"name": name, "unit": name, "digest": name}, "rows": {"split": name}}
    rest = {"parameters": {name: 1.0}, "metric": {"label": name}}
    trial = trial_record(**dict.fromkeys(texts, name), **where, **rest)
    controls = {name: against(0.125, 0.2), "untrained": against(0.3, -0.1)}
    regions = {name: region_record(0.3, 50, controls=controls)}
    confirmation = confirmation_of(trial, region_record(0.25, controls=controls), regions, ceiling=name)
    published = Row(run_id=name, trial=trial, confirmation=confirmation, champion=True, registered=f"{name} v1")
    return [published, make(number=1, score=0.2, layer=name, n_undefined=3, **where, **rest)]


def pages_of(name: str) -> list[Parsed]:
    """The pages of `board`, with a title and a note on how they were built, in the order in which they are written."""
    with tempfile.TemporaryDirectory() as folder:
        files = build(board(name), Path(folder), title=name, built=name)
        return [Parsed(path.read_text(encoding="utf-8")) for path in files if path.suffix == ".html"]


@pytest.fixture(scope="module")
def harmless() -> list[Skeleton]:
    """The elements of pages whose names are harmless."""
    return [page.skeleton for page in pages_of("x")]


@settings(max_examples=20)
@example("\ud800~")
@given(st.text(st.characters()).map(lambda text: f"{text}~") | st.just(EVIL))  # no name of ours ends so
def test_a_name_is_text_wherever_it_stands(harmless: list[Skeleton], name: str) -> None:
    pages = pages_of(name)
    shown = printable(name)
    for page, expected in zip(pages, harmless, strict=True):
        assert page.skeleton == expected
        assert page.depth == 0
        assert sum(shown in text for text in page.texts) >= 3, (
            "the page of comparisons has its title, the way back, and when it was built"
        )
    assert [value for key, value in pages[0].attributes if key == "title"].count(shown) == 2, "data and split"
    assert sum(key in ("data-region", "data-value") and value == shown for key, value in pages[0].attributes) == 2


def test_control_characters_are_spelled_out() -> None:
    for page in pages_of(EVIL):
        shown = "".join([*page.texts, *(value for _, value in page.attributes)])
        assert [char for char in shown if not char.isprintable() and char != "\n"] == []
        assert "\\x1b[2J\\u202e{{ 7 * 7 }}" in shown


def test_a_figure_shows_its_title_as_text() -> None:
    shown = {"script": "draw()", "library": "code"}
    page = Parsed(render("figure.html", title=EVIL, figures=[EVIL], **shown))
    assert page.skeleton == Parsed(render("figure.html", title="x", figures=["y"], **shown)).skeleton
    assert printable(EVIL) in page.texts
    assert ("data-figure", printable(EVIL)) in page.attributes


def test_a_value_that_is_lacking_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="'figures' is undefined"):
        render("figure.html", title="x")


@pytest.mark.parametrize("path", sorted([*TEMPLATES.glob("*.html"), REPORT]), ids=lambda path: path.name)
def test_nothing_of_others_is_marked_as_safe(path: Path) -> None:
    assert list(loopholes(path.read_text(encoding="utf-8"), OURS.get(path.name, set()))) == []


def test_no_markup_is_made_in_python() -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in Path(img2brain.__file__).parent.rglob("*.py")}
    assert [path for path, source in sources.items() if "Markup(" in source or "__html__" in source] == []


@pytest.mark.parametrize(
    "source",
    [
        "{{ name|safe }}",
        "{{ (style ~ name)|safe }}",
        "{{ {'title': name}|xmlattr }}",
        "{% filter safe %}{{ name }}{% endfilter %}",
        "{% autoescape false %}{{ name }}{% endautoescape %}",
        "<td title={{ name }}>",
        "<td title = {% if name %}{{ name }}{% endif %}>",
        "<td {{ name }}>",
        "<script>{{ name }}</script>",
    ],
)
def test_loopholes_are_found(source: str) -> None:
    assert list(loopholes(source, {"style"}))


def loopholes(source: str, ours: set[str]) -> Iterator[str]:
    """Name what would let a text act as markup: filters but the known ones, and places where escaping is not enough."""
    tree = ENVIRONMENT.parse(source)
    for found in tree.find_all(nodes.Filter):
        name = getattr(found.node, "name", None)
        if found.name not in FILTERS and not (found.name == "safe" and name in ours):
            yield f"filter {found.name}"
    yield from ("autoescape" for _ in tree.find_all(nodes.ScopedEvalContextModifier))
    yield from Places(source, ours).unquoted


class Places(HTMLParser):
    """Where a template, read as HTML, shows something outside of text and quoted values."""

    def __init__(self, source: str, ours: set[str]) -> None:
        super().__init__()
        self.unquoted: list[str] = []
        self.ours = {f"{{{{ {name}|safe }}}}" for name in ours}
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[Any]) -> None:
        text = self.get_starttag_text() or ""
        if "{{" in "".join(text.split('"')[::2]):
            self.unquoted.append(text)

    def handle_data(self, data: str) -> None:
        if self.cdata_elem and "{{" in data and data not in self.ours:
            self.unquoted.append(data)
