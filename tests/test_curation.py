"""What is kept of registered models: who was champion when and why, tags, descriptions, and steps back."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from img2brain.cli import main
from img2brain.curation import describe_model, model_history, rollback_model, succession, tag_model
from img2brain.errors import ModelError
from img2brain.home import Home
from img2brain.registered import crown_model
from img2brain.tracking._local import LocalStore
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.registry import Registry

if TYPE_CHECKING:
    from tests.conftest import Finished


def invoke(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture
def three(finished_copy: Path) -> Path:
    """A home with three versions of one model, the first of which is champion."""
    store = TrackingStore(Home(finished_copy))
    found = store.client.get_model_version("sample", "1")
    for run in (found.run_id, "0" * 32):
        store.client.create_model_version("sample", found.source, run, {"img2brain.run": run}, model_id=found.model_id)
    return finished_copy


def champion(home: Path) -> str:
    found = Registry(TrackingStore(Home(home))).champion("sample")
    assert found is not None
    return found.version


def test_champions_follow_one_another_and_steps_go_back(three: Path) -> None:
    for version in ("2", "3"):
        crown_model(f"sample/{version}", three, "Ann")
    reasons = [(item.version, item.reason) for item in model_history("sample", three).crownings]
    second = ("2", "by hand of Ann, in place of version 1")
    third = ("3", "by hand of Ann, in place of version 2")
    assert reasons == [("1", "the first champion"), second, third]
    assert rollback_model("sample", three, "Bob") == "version 2: by hand of Bob, in place of version 3"
    assert champion(three) == "2"
    assert rollback_model("sample@champion", three).startswith("version 1: ")
    assert champion(three) == "1"
    with pytest.raises(ModelError, match="must have had another champion before"):
        rollback_model("sample", three)
    found = model_history("sample", three)
    assert [item.version for item in found.crownings] == ["1", "2", "3", "2", "1"]
    assert [item.registered.version for item in found.versions] == ["1", "2", "3"]
    times = [item.made_ms for item in found.crownings]
    assert times == sorted(times)
    assert found.versions[0].confirmation is not None
    assert found.versions[2].trial is None
    assert found.versions[2].decided.startswith("version 2 was crowned: ")


def test_a_step_back_leaves_out_what_was_deleted(three: Path) -> None:
    for version in ("2", "3"):
        crown_model(f"sample/{version}", three)
    TrackingStore(Home(three)).client.delete_model_version("sample", "2")
    assert rollback_model("sample", three).startswith("version 1: ")


def test_of_a_home_of_before_the_champion_alone_is_known(three: Path) -> None:
    client = TrackingStore(Home(three)).client
    for key in client.get_registered_model("sample").tags:
        client.delete_registered_model_tag("sample", key)
    assert [(item.version, item.reason, item.made_ms) for item in model_history("sample", three).crownings] == [
        ("1", "the first champion", 0)
    ]
    crown_model("sample/2", three)
    found = model_history("sample", three).crownings
    assert [(item.version, item.made_ms > 0) for item in found] == [("1", False), ("2", True)]
    client.set_registered_model_alias("sample", "champion", "3")  # in MLflow's pages
    client.set_registered_model_tag("sample", "img2brain.crowned.9", "[[[")
    client.set_registered_model_tag("sample", "img2brain.crowned.x", "{}")
    assert [item.version for item in model_history("sample", three).crownings] == ["1", "2", "3"]
    assert rollback_model("sample", three).startswith("version 2: ")


def test_both_ways_of_reading_know_the_same(three: Path) -> None:
    crown_model("sample/2", three)
    tag_model("sample/1", "paper", "figure 3", three)
    describe_model("sample", "All of\nthem.", three)
    describe_model("sample/1", "One.", three)
    for name in ("sample", "no such model"):
        one, other = (Registry(kind(Home(three))) for kind in (LocalStore, TrackingStore))
        assert one.crownings(name) == other.crownings(name)
        assert one.description(name) == other.description(name)
        assert one.versions(name) == other.versions(name)


def test_tags_and_descriptions_are_shown_as_text(three: Path) -> None:
    assert invoke("model", "tag", "sample/1", "paper=figure 3", "--home", three).stdout.startswith("sample/1: ")
    assert invoke("model", "describe", "sample/1", "<script>\n**bold**", "--home", three).exit_code == 0
    assert invoke("model", "describe", "sample", "Of pictures.", "--home", three).exit_code == 0
    Home(three)
    TrackingStore(Home(three)).client.set_model_version_tag("sample", "1", "theirs", "\x1b[2J\nred")
    told = invoke("model", "history", "sample", "--home", three).stdout
    assert "sample: Of pictures.\nversion 1 (champion), registered 20" in told
    assert "paper=figure 3, theirs=\\x1b[2J\\nred" in told
    assert "description: <script> / **bold**" in told
    assert "\x1b" not in told
    assert "\x1b" not in invoke("model", "show", "sample", "--home", three).stdout
    facts = json.loads(invoke("model", "history", "sample", "--json", "--home", three).stdout)
    assert facts["versions"][0]["tags"]["paper"] == "figure 3"
    assert [item["version"] for item in facts["champions"]] == ["1"]
    (shown,) = [json.loads(invoke("model", "show", "sample", "--json", "--home", three).stdout)]
    assert shown == facts["versions"][0]
    listed = json.loads(invoke("model", "list", "--json", "--home", three).stdout)
    assert [item["version"] for item in listed] == ["3", "2", "1"]
    assert listed[2] == shown
    tag_model("sample/1", "paper", "", three)
    assert "paper" not in model_history("sample", three).versions[0].tags


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tag", "sample/1", "no equals sign"), "must be given as KEY=VALUE"),
        (("tag", "sample/1", "img2brain.crowned=x"), "must not begin with img2brain. or mlflow."),
        (("tag", "sample/1", "a\x1bb=x"), "The name of a tag must be"),
        (("tag", "sample/1", "=x"), "The name of a tag must be"),
        (("tag", "sample/1", "a=\x1b"), "must be one line"),
        (("tag", "sample/1", "a=" + "b" * 6000), "at most 5000"),
        (("tag", "sample/9", "a=b"), "has no version 9"),
        (("describe", "sample/9", "text"), "has no version 9"),
        (("describe", "smaple", "text"), "Did you mean 'sample'?"),
        (("describe", "sample", "\x1b"), "A description must have"),
        (("rollback", "sample"), "must have had another champion before"),
        (("rollback", "smaple"), "Did you mean 'sample'?"),
        (("history", "smaple"), "Did you mean 'sample'?"),
    ],
)
def test_what_cannot_be_kept_is_refused_on_one_line(finished: Finished, words: tuple[str, ...], message: str) -> None:
    ended = invoke("model", *words, "--home", finished.home)
    assert ended.exit_code == 2
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@given(st.lists(st.integers(0, 4).map(str), min_size=1))
def test_a_step_back_never_leads_to_the_present_champion(versions: list[str]) -> None:
    line = succession(versions)
    assert line[-1] == versions[-1]
    assert all(one != other for one, other in pairwise(line))
    if len(line) > 1:
        assert succession([*versions, line[-2]]) == line[:-1]
