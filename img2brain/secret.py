"""Passwords in addresses: they are never shown, and never stand where others can read them."""

from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit

_HIDDEN = "***"
_TELLING = 6  # a shorter one may be part of any word; it is hidden where it stands as a password


def passwords(url: str) -> list[str]:
    """Return the passwords that an address holds, as they stand in it: of its user, and among its options.

    Examples
    --------
    >>> passwords("postgresql://me:s3cret@host/db"), passwords("postgresql://host/db?password=s3cret")
    (['s3cret'], ['s3cret'])
    >>> passwords("postgresql://me@host/db"), passwords("mlruns")
    ([], [])
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return []
    user, at, _ = parts.netloc.rpartition("@")  # a password may hold an @ of its own
    options = [item.partition("=") for item in parts.query.split("&")]
    found = [user.partition(":")[2]] if at else []
    return [word for word in (*found, *(value for name, _, value in options if "password" in name)) if word]


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
        plain = unquote(word)
        for form in sorted({word, plain, quote(plain, safe="")}, key=len, reverse=True):
            text = text.replace(f":{form}@", f":{_HIDDEN}@").replace(f"={form}", f"={_HIDDEN}")
            text = text.replace(form, _HIDDEN) if len(form) >= _TELLING else text
    return text
