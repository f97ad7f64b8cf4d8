"""Finding the layout of a folder, and opening or checking it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from img2brain.catalog import LAYOUTS
from img2brain.datasets._links import is_there
from img2brain.datasets._looks import Problem, Report
from img2brain.datasets._selected import select
from img2brain.datasets._strays import instead_of_dataset, table_in
from img2brain.datasets.base import Dataset, require_facts
from img2brain.errors import DataError, Img2BrainError
from img2brain.spec import PreparationSpec, parse

T = TypeVar("T")

log = logging.getLogger(__name__)


def layouts() -> dict[str, str]:
    """Say on one line what each layout needs: ours, and those of installed packages.

    Examples
    --------
    >>> layouts()["folder"][:22]
    'Images in trainingIMG/'
    """
    return {name: _first_line(kind) + _splits_of(kind) for name, kind in _known().items()}


def open_dataset(path: Path | str, layout: str | None = None, **asked: Any) -> Dataset:
    """Open a dataset.

    Parameters
    ----------
    path : Path or str
        A folder, or a file where the layout is one of files.
    layout : str, optional
        The name of a layout, or ``PATH.py:NAME``. By default the one layout that recognises the folder.
    **asked
        What is taken of the folder, as in ``[dataset]`` of a study file: `subject`, `normalise` (``"session"``,
        ``"run"`` or ``"none"``), `repeats` (``"mean"`` or ``"single"``), `voxels` (``"nc > 0.3"``, ``"V1 or V2"``),
        `images` and `responses`, where a folder holds several or they lie elsewhere.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If no layout recognises the folder, or more than one does; if something in it is absent or does not fit.
    SpecError
        If there is no such layout, or something is asked for that is none of these.
    """
    path = Path(path)
    wanted = parse(PreparationSpec, asked, "What is asked of the dataset")
    return _opened(find_layout(path, layout), path, wanted)


def _opened(name: str, path: Path, asked: PreparationSpec) -> Dataset:
    kind: type[Dataset] = LAYOUTS[name]
    dataset = _run(name, path, lambda: kind.open_prepared(path, asked) if asked.asked else kind.open(path))
    if not isinstance(dataset, Dataset):
        raise DataError(f"The layout {name!r} must open {str(path)!r} as a Dataset. Got {type(dataset).__name__}.")
    require_facts(dataset)
    dataset.origin, dataset.layout = path, name
    return dataset if asked.voxels is None else select(dataset, asked.voxels)


def subjects(path: Path | str, layout: str | None = None) -> tuple[str, ...]:
    """Name the subjects of a folder, each of which `open_dataset` opens as ``subject``.

    Parameters
    ----------
    path, layout
        As for `open_dataset`.

    Returns
    -------
    tuple of str
        In the order of the layout; the one subject, where the layout knows no more, if the data say who it is.

    Raises
    ------
    DataError, SpecError
        As for `open_dataset`.
    """
    path = Path(path)
    name = find_layout(path, layout)
    kind: type[Dataset] = LAYOUTS[name]
    found = tuple(_run(name, path, lambda: kind.subjects(path)))
    return found or tuple(filter(None, [_opened(name, path, PreparationSpec()).subject]))


def check(path: Path | str, layout: str | None = None, **asked: Any) -> Report:
    """Check a dataset, and report every problem at once.

    Parameters
    ----------
    path, layout, **asked
        As for `open_dataset`.

    Returns
    -------
    Report
        Errors: what is absent or does not fit, images that do not decode, values that are not finite. Warnings:
        constant voxels, images with the same pixels, repeats that are none of the responses.

    Raises
    ------
    SpecError
        If there is no such layout.

    Notes
    -----
    Decodes every image and reads every response once.
    """
    path, name = Path(path), "" if layout is None else LAYOUTS.load(layout)
    wanted = parse(PreparationSpec, asked, "What is asked of the dataset")
    try:
        name = name or find_layout(path)
        return replace(_checked(name, path, wanted), layout=name)
    except (Img2BrainError, OSError) as error:
        kind: type[Dataset] = LAYOUTS[name] if name else Dataset
        told = kind.problems_of(path, wanted) or (str(error),)
        return Report(problems=tuple(Problem("error", message) for message in told), layout=name)


def _checked(name: str, path: Path, asked: PreparationSpec) -> Report:
    """Check a folder as it is, also where it cannot be opened, or as it is asked for."""
    kind: type[Dataset] = LAYOUTS[name]
    return _run(name, path, lambda: _opened(name, path, asked).check() if asked.asked else kind.check_folder(path))


def find_layout(path: Path, layout: str | None = None) -> str:
    """Name the layout of a folder.

    Raises
    ------
    DataError
        If no layout recognises it, or more than one does.
    SpecError
        If there is no layout of the name that was given.
    """
    if layout is not None:
        return LAYOUTS.load(layout)
    if not is_there(path):
        raise DataError(f"The dataset folder {str(path)!r} must exist. It does not.")
    known = _known()
    found = [name for name, kind in known.items() if _recognises(name, kind, path)]
    if len(found) > 1:
        names = " and ".join(map(repr, found))
        raise DataError(f"The dataset {str(path)!r} is recognised by the layouts {names}. Say which one it is.")
    if not found:
        raise DataError(f"No dataset layout recognises {str(path)!r}.{_nearby(known, path)} There are {_needs(known)}"
                        f"{table_in(path)}")  # fmt: skip
    return found[0]


def _needs(known: Mapping[str, type[Dataset]]) -> str:
    """Say what each layout needs, and name those of published datasets."""
    own = [f"{name!r}: {_first_line(kind)}" for name, kind in known.items() if not kind.published]
    published = ", ".join(repr(name) for name, kind in known.items() if kind.published)
    named = f" Those of published datasets are {published}: 'img2brain data layouts' says what each needs."
    return " ".join(own) + (named if published else "")


def _nearby(known: Mapping[str, type[Dataset]], path: Path) -> str:
    """Say which folder in a folder is a dataset, or what it holds else."""
    for folder in sorted(item for item in path.iterdir() if item.is_dir()) if path.is_dir() else ():
        if any(_recognises(name, kind, folder) for name, kind in known.items()):
            return f" Its folder {folder.name!r} is recognised: give that one."
    return instead_of_dataset(path)


def _known() -> dict[str, type[Dataset]]:
    """Load the layouts that may be asked: those of files are used where they are named, whatever was named before."""
    found: dict[str, type[Dataset]] = {}
    for name in (name for name in LAYOUTS.names if ".py:" not in name):
        try:
            found[name] = LAYOUTS[name]
        except Img2BrainError as error:  # what somebody else's package lacks must not stop all other work
            log.warning("the dataset layout %s is left out: %s", name, error)
    return found


def _recognises(name: str, kind: type[Dataset], path: Path) -> bool:
    try:
        return bool(kind.recognises(path))
    except Exception as error:  # code of others raises anything
        log.warning("the dataset layout %s fails to look at %s: %s", name, path, error)
        return False


def _run(name: str, path: Path, work: Callable[[], T]) -> T:
    """Run the code of a layout, and say on one line where it fails."""
    try:
        return work()
    except (Img2BrainError, OSError, MemoryError):
        raise
    except Exception as error:  # code of others raises anything
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        raise DataError(f"The layout {name!r} cannot open {str(path)!r}: {type(error).__name__}: {reason}.") from error


def _splits_of(kind: type[Dataset]) -> str:
    """Name the splits that a layout brings, where it brings any."""
    return f" Splits: {', '.join(kind.presets)}." if kind.presets else ""


def _first_line(kind: type[Dataset]) -> str:
    """Return the first line of a class's own documentation."""
    lines = (kind.__doc__ or "").strip().splitlines()
    return lines[0] if lines else f"{kind.__name__} says nothing of itself."
