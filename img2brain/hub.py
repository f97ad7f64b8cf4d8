"""Models on a hub of Hugging Face's kind: a folder with a card, checked by the hub's own rules, sent and fetched.

``hf://OWNER/NAME`` names a repository. Who may write there is known to the hub's own library, by its login.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from img2brain import plain, sealed, untrusted
from img2brain.errors import Img2BrainError, ModelError, quoted

SCHEME = "hf://"
CARD = "README.md"
_LIBRARY = "img2brain"
_MOST_FILES = 100


def is_on_hub(reference: str) -> bool:
    """Tell whether a model is named by a repository of a hub."""
    return reference.startswith(SCHEME)


def check_card(folder: Path) -> None:
    """Check the card of a model as the hub's own library reads it.

    Raises
    ------
    ModelError
        If there is no card, or its front matter is not what the hub takes.
    """
    _require_library()
    from huggingface_hub import ModelCard

    if not (folder / CARD).is_file():
        raise ModelError(f"A model on a hub must have a card, {CARD}. This one has none: publish it again.")
    with _hub_says(f"The card {CARD}"):
        data = ModelCard.load(folder / CARD).data.to_dict()
        if absent := [key for key in ("license", "library_name", "tags") if not data.get(key)]:
            raise ValueError(f"no {' and no '.join(absent)}")


def repository(reference: str) -> str:
    """Return the name of the repository that is named, as the hub takes it.

    Raises
    ------
    ModelError
        If the hub takes no such name.
    """
    _require_library()
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined] # public, as its docstring says

    name = reference.removeprefix(SCHEME)
    with _hub_says(f"The repository {quoted(name)}"):
        validate_repo_id(name)
    return name


def upload(folder: Path, reference: str, *, private: bool = True, endpoint: str | None = None) -> str:
    """Send a folder to a repository, which is made where it is not there, and return its address.

    Raises
    ------
    ModelError
        With what the hub says, where it does not take it.
    """
    name = repository(reference)
    from huggingface_hub import HfApi

    with _hub_says(f"The repository {quoted(name)}"):
        api = HfApi(endpoint=endpoint, library_name=_LIBRARY)
        made = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload a model of img2brain")
        return str(made)


@contextmanager
def fetched(reference: str, *, endpoint: str | None = None, cache: Path | None = None) -> Iterator[Path]:
    """Hand out the folder of a model from a repository: the files that it was sealed with, and no other.

    Raises
    ------
    ModelError
        If there is none, or it holds no model.
    """
    name = repository(reference)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        with _hub_says(f"The repository {quoted(name)}"):
            fetch = partial(_fetch, name, folder, endpoint=endpoint, cache_dir=cache)
            fetch(sealed.SEAL)
            for file in _sealed_files(folder, name):
                fetch(file)
        for path in folder.rglob("*.safetensors"):
            untrusted.tensor_shapes(path)
        yield folder


def _fetch(name: str, folder: Path, file: str, **where: Any) -> None:
    """Copy a file out of the cache of the hub's library, where it is a link."""
    from huggingface_hub import hf_hub_download

    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(hf_hub_download(name, file, library_name=_LIBRARY, **where), folder / file)


def _sealed_files(folder: Path, name: str) -> list[str]:
    found: Any = plain.of_json((folder / sealed.SEAL).read_text(encoding="utf-8"))
    if not isinstance(found, dict) or len(found) > _MOST_FILES:
        raise ModelError(f"The repository {quoted(name)} must hold a model. Its {sealed.SEAL} is none.")
    untrusted.check_names([*found, sealed.SEAL], name)
    return list(found)


@contextmanager
def _hub_says(what: str) -> Iterator[None]:
    """Tell on one line what the hub, or its library, refuses."""
    try:
        yield
    except Img2BrainError:
        raise
    except Exception as error:  # the library raises errors of its own, of httpx and of YAML
        told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ModelError(f"{what} must be as the hub takes it. It says: {told.rstrip('.')}.") from error


def _require_library() -> None:
    if find_spec("huggingface_hub") is None:
        raise ModelError("A hub needs huggingface_hub, which is not installed: pip install img2brain[hub].")
