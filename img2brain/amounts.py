"""Amounts as people say them: counts with their noun, and bytes in a unit that fits."""

from __future__ import annotations

_LARGER = {1000: ("kB", "MB", "GB", "TB"), 1024: ("KiB", "MiB", "GiB", "TiB")}


def counted(number: int, one: str, many: str = "", form: str = "") -> str:
    """Say how many there are of something.

    Parameters
    ----------
    number : int
        How many.
    one, many : str
        What one of them is called, and several; by default as one, with an s.
    form : str
        How the number is written, such as ``","``.

    Examples
    --------
    >>> counted(1, "layer"), counted(2, "layer"), counted(1200, "study", "studies", ",")
    ('1 layer', '2 layers', '1,200 studies')
    """
    return f"{number:{form}} {one if number == 1 else many or f'{one}s'}"


def size_text(n_bytes: float, step: int = 1000) -> str:
    """Say how large something is, in the unit in which it is at least 1.

    Parameters
    ----------
    n_bytes : float
        Bytes.
    step : int
        What one unit has of the one below, 1000 for disks or 1024 for memory.

    Examples
    --------
    >>> size_text(118_060_000_000), size_text(2_300_000), size_text(4200), size_text(7), size_text(3 << 29, 1024)
    ('118.1 GB', '2.30 MB', '4.20 kB', '7 bytes', '1.50 GiB')
    """
    if n_bytes < step:
        return counted(round(n_bytes), "byte")
    *below, largest = _LARGER[step]
    value = n_bytes / step
    for unit in below:
        if value < step:
            return _with_unit(value, unit)
        value /= step
    return _with_unit(value, largest)


def _with_unit(value: float, unit: str) -> str:
    return f"{value:.{2 if value < 10 else 1}f} {unit}"
