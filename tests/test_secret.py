"""Passwords in addresses are not shown, and not taken from where others read them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img2brain.errors import StoreError
from img2brain.home import Home
from img2brain.secret import masked, passwords, without

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Launcher


@given(st.text(min_size=6, max_size=20))
def test_no_password_is_shown(word: str) -> None:
    for url in (f"postgresql://me:{quote(word, safe='')}@host:5/db", f"https://host/?password={quote(word, safe='')}"):
        assert passwords(url) == [quote(word, safe="")]
        for text in (masked(url), without(f"no way to {url}: {word} and {quote(word, safe='')} were said", url)):
            assert word not in text.replace("***", "")
            assert quote(word, safe="") not in text.replace("***", "")


@pytest.mark.parametrize("mark", ["", *"#?/[@:]%&="])
@pytest.mark.parametrize("start", ["s3cr3t", "12"])
def test_no_part_of_a_password_is_shown_that_was_not_escaped(start: str, mark: str) -> None:
    word = f"{start}{mark}Ab"
    urls = [f"{scheme}://me:{word}@host:5/db" for scheme in ("postgresql", "http", "mysql")]
    if mark != "&":
        urls += [
            f"postgresql://me@host/db?{name}={word}" for name in ("password", "p%61ssword", "sslpassword", "passwd")
        ]
        urls += [f"host=there password={word} user=me", f"host=there password = '{word}'"]
    for url in urls:
        told = f"{masked(url)} and {without(f'{url}: no way with {chr(34)}{word}{chr(34)}', url)}"
        assert passwords(url)
        assert start not in told
        assert "Ab" not in told


@pytest.mark.parametrize("name", ["s3#cr", "s%zz", "s%00"])
def test_no_short_password_is_shown_that_a_database_quotes(name: str) -> None:
    assert without(f'invalid token: "{name}"', f"postgresql://me:{name}@host/db") == 'invalid token: "***"'


@pytest.mark.parametrize("url", ["postgresql://h\0/db", "postgresql://h/\udcff", "sqlite:///a\nb", "sqlite:///\udcff"])
def test_a_storage_that_no_library_could_name_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^The storage must be a URL"):
        Home(tmp_path, storage=url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://host/db", "postgresql://me@host/db", "sqlite:///a:b@c.db", "http://[", "", "mlruns", "a=b",
        "postgresql://host:5432/db?user=me@server", "postgresql://one:5,two:6/db?user=a@b", "http://[::1]:5000/?x=a@b",
        "postgresql://host/db?passfile=/home/me/.pgpass", "postgresql:///db?host=/run&user=a:b@c", "http://host:5000",
    ],
)  # fmt: skip
def test_an_address_without_a_password_is_shown_as_it_is(url: str) -> None:
    assert masked(url) == url


@pytest.mark.parametrize("option", ["--storage", "--tracking-uri"])
def test_a_password_on_the_command_line_is_refused(img2brain: Launcher, option: str, tmp_path: Path) -> None:
    scheme = {"--storage": "postgresql", "--tracking-uri": "http"}[option]
    ended = img2brain.run("study", "list", option, f"{scheme}://me:abracadabra@127.0.0.1:9/x", cwd=tmp_path)
    assert ended.code == 2
    assert f"The option {option} must hold no password" in ended.error
    assert "abracadabra" not in ended.stderr + ended.stdout


def test_a_storage_that_is_none_is_refused_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"^The storage must be a URL 'sqlite:///FILE' or .* Got 'mysql://me:\*\*\*@h/d'"
    ):
        Home(tmp_path, storage="mysql://me:abracadabra@h/d")
    assert Home(tmp_path, storage="").storage is None


def test_a_cache_that_homes_share_is_not_freed_while_one_is_in_use(tmp_path: Path) -> None:
    one, other = (Home(tmp_path / name, cache=tmp_path / "cache") for name in "ab")
    assert one.store.folder == other.store.folder == tmp_path / "cache"
    with one.in_use(), other.in_use():
        for home in (one, other, Home(tmp_path / "c", cache=tmp_path / "cache")):
            with pytest.raises(StoreError, match="A study is at work"), home.unused():
                raise AssertionError("it is in use")
        with Home(tmp_path / "c").unused():
            pass
    with one.unused():
        pass
