"""Which addresses are asked, and which a server may send on to."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from img2brain.errors import DataError, quoted

_SCHEMES = ("http", "https")


def require_address(url: str) -> None:
    """Refuse what is no address of the web.

    Raises
    ------
    DataError
        With the address.
    """
    if _scheme(url) not in _SCHEMES or not _host(url):
        raise DataError(f"An address must be of http or https. Got {quoted(url)}.")


def require_onward(origin: str, url: str) -> None:
    """Refuse to be led on to a place that the first address gives no right to.

    Parameters
    ----------
    origin : str
        The address that was asked for.
    url : str
        The one that its server names.

    Raises
    ------
    DataError
        If it is none of http or https, leaves https, or is on this machine or in its own network and the first is not.

    Examples
    --------
    >>> require_onward("https://zenodo.org/x", "file:///etc/passwd")
    Traceback (most recent call last):
    img2brain.errors.DataError: An address must be of http or https. Got 'file:///etc/passwd'.
    >>> require_onward("https://192.0.2.1/x", "http://192.0.2.1/x")
    Traceback (most recent call last):
    img2brain.errors.DataError: 'https://192.0.2.1/x' must not lead on to http. Got 'http://192.0.2.1/x'.
    """
    require_address(url)
    if _scheme(origin) == "https" and _scheme(url) != "https":
        raise DataError(f"{quoted(origin)} must not lead on to http. Got {quoted(url)}.")
    if _is_near(url) and not _is_near(origin):
        raise DataError(f"{quoted(origin)} must not lead on to this machine or its network. Got {quoted(url)}.")


def _is_near(url: str) -> bool:
    """Tell whether any address of a host is not of the public internet; one that has none is left to the connection."""
    try:
        found = socket.getaddrinfo(_host(url), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return any(not _is_global(str(place[0]).partition("%")[0]) for *_, place in found)


def _is_global(text: str) -> bool:
    address = ipaddress.ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_global)


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:
        return ""


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
