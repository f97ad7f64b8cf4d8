"""A study file to start from."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

from img2brain.errors import SpecError
from img2brain.spec import NAME_PATTERN

_SAMPLE = re.compile(r"^sample = .*$", re.MULTILINE)
_PATH = re.compile(r'^# (path = )".*"$', re.MULTILINE)


def init_study(path: Path | str, dataset: Path | str | None = None) -> Path:
    """Write a study file that names every key and runs as it is.

    Parameters
    ----------
    path : Path or str
        The file, which must not be there; the study is called as it is.
    dataset : Path or str, optional
        The folder of the data, from the folder of the file; by default sample data are generated.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    SpecError
        If the file is there, or its name is none for a study.
    """
    path = Path(path)
    if not re.fullmatch(NAME_PATTERN, path.stem) or len(path.stem) > 64 or path.suffix != ".toml":
        raise SpecError(f"A study file must be called as its study, such as 'my-study.toml'. Got {str(path)!r}.")
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(_text(path.stem, dataset))
    except FileExistsError:
        raise SpecError(f"The file {str(path)!r} is there already, and is left as it is.") from None
    return path


def _text(name: str, dataset: Path | str | None) -> str:
    text = files("img2brain.study").joinpath("every_key.toml").read_text(encoding="utf-8")
    text = text.replace('name = "my-study"', f'name = "{name}"', 1)
    return text if dataset is None else _with_dataset(text, _toml_text(str(dataset)))


def _with_dataset(text: str, dataset: str) -> str:
    """Put a folder in the place of the sample data."""
    text = _SAMPLE.sub(lambda line: f"# {line[0]}", text)
    return _PATH.sub(lambda line: f"{line[1]}{dataset}", text)


def _toml_text(text: str) -> str:
    """Write a text as TOML: as JSON does, but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
