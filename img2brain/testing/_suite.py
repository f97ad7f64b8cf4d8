"""What the suites share: a check is a function that takes a component and says in one sentence what is owed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any, TypeVar

from sklearn.exceptions import ConvergenceWarning

C = TypeVar("C")
Check = Callable[[C], None]


def owed(holds: Any, says: str) -> None:
    """Raise an `AssertionError` that says what is owed, where it does not hold."""
    if not holds:
        raise AssertionError(says)


def refused(kind: type[Exception], act: Callable[[], object], what: str) -> str:
    """Return the one line with which an error of this kind refuses to act; say that it is owed where there is none."""
    try:
        act()
    except kind as error:
        owed("\n" not in str(error), f"{what} must be refused on one line. Got {str(error)!r}.")
        return str(error)
    except Exception as error:
        raise AssertionError(f"{what} must raise {kind.__name__}. Got {_line(error)}.") from error
    raise AssertionError(f"{what} must raise {kind.__name__}. Nothing was raised.")


def named(checks: Sequence[Check[C]]) -> Iterator[tuple[str, Check[C]]]:
    """Yield checks with their names; whatever goes wrong in one of them is an `AssertionError` on one line."""
    for check in checks:
        yield check.__name__.removeprefix("check_"), _stated(check)


def run(checks: Sequence[Check[C]], component: C) -> None:
    """Run all checks; only the first, where that fails: without it no other makes sense.

    Raises
    ------
    AssertionError
        With a line for each check that failed, starting with its name.
    """
    failed = []
    for name, check in named(checks):
        try:
            check(component)
        except AssertionError as error:
            failed.append(f"{name}: {error}")
        if failed and check.__name__ == checks[0].__name__:
            break
    owed(not failed, "\n".join(failed))


def _stated(check: Check[C]) -> Check[C]:
    @wraps(check)
    def stated(component: C) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                check(component)
            except AssertionError:
                raise
            except Exception as error:
                raise AssertionError(f"This must not raise {_line(error)}.") from error

    return stated


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}"
