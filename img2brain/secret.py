"""Passwords in addresses: they are never shown, and never stand where others can read them."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

_HIDDEN = "***"
_TELLING = 6  # a shorter one may be part of any word; it is hidden where it stands as a password
_HOST = r"(\[[^]]*\]|[^][:]*)(:\d*)?"
_HOSTS = re.compile(f"{_HOST}(,{_HOST})*")
_OPTION = re.compile(r"[?&]([^=&]*)=([^&]*)")
_WORD = re.compile(r"(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|\S+)")  # of a connection that is told in words, not as a URL
_OF_URLS = re.compile("[/?#@:]")  # where a reader may cut a password that holds them unescaped


def passwords(url: str) -> list[str]:
    """Return the passwords that an address holds, as they stand in it: of its user, and among its options.

    Notes
    -----
    Characters that must be escaped in an address often are not, and readers differ in what they make of it. What may be
    a password to any of them is one here.

    Examples
    --------
    >>> passwords("postgresql://me:s3cret@host/db"), passwords("postgresql://host/db?password=s3cret")
    (['s3cret'], ['s3cret'])
    >>> passwords("postgresql://me:s3#c/r[et@host/db"), passwords("host=there password=s3cret")
    (['s3#c/r[et'], ['s3cret'])
    >>> passwords("postgresql://me@host/db"), passwords("mlruns")
    ([], [])
    """
    _, is_url, rest = url.partition("://")
    options = (_OPTION if is_url else _WORD).findall(url)
    named = [value for name, value in options if any(word in unquote(name).lower() for word in ("passw", "pwd"))]
    return [word for item in (_of_user(rest), *named) if (word := item.strip("'"))]


def _of_user(rest: str) -> str:
    """Return the password of the user of an address, from what stands behind its scheme."""
    authority = rest.partition("/")[0]
    parts = [rest.partition("?")[0], authority] if authority else []
    parts += [] if _HOSTS.fullmatch(authority) else [rest]
    users = [part.rpartition("@")[0] for part in parts]
    return max(users, key=len, default="").partition(":")[2]


def masked(url: str) -> str:
    """Return an address as it may be shown.

    Examples
    --------
    >>> masked("postgresql://me:s3cret@host/db?sslpassword=other")
    'postgresql://me:***@host/db?sslpassword=***'
    """
    return without(url, url)


def without(text: str, url: str) -> str:
    """Return a text without the passwords of an address, however they are written there."""
    for word in passwords(url):
        for form in sorted(_forms(word), key=len, reverse=True):
            for before, after in (":@", ("=", ""), ("= ", ""), '""', "''"):
                text = text.replace(f"{before}{form}{after}", f"{before}{_HIDDEN}{after}")
            text = text.replace(form, _HIDDEN) if len(form) >= _TELLING else text
    return text


def _forms(word: str) -> set[str]:
    """Return how a password may be written in what is said of it, and the pieces that a reader may cut it into."""
    plain = unquote(word)
    return {word, plain, quote(plain, safe=""), *_OF_URLS.split(word)} - {""}
