"""One file that holds a model and where it comes from: what travels between homes, and loads without any.

It is a zip file of stored files, the same bytes for the same model: ``model/`` is the model's folder as it was saved,
``origin.json`` says where it was registered, ``run/`` holds the records and scores of its trial where they are known,
``digests.json`` names the digest of every file. It holds numbers and no code: what a model needs of the components of
others is in the home that it is used in, or is named there.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from img2brain import digest, sealed, untrusted
from img2brain.errors import DataError, Img2BrainError, ModelError, quoted

SUFFIX = ".img2brain.zip"
MODEL, ORIGIN, RUN = "model", "origin.json", "run"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # The first date that a zip file can hold.
_LIMITS = untrusted.Limits(ratio=1)  # All is stored: what is unpacked is no larger than the file.
_LARGEST_TEXT = 1 << 26  # bytes of a file of JSON


def is_model_file(reference: str) -> bool:
    """Tell whether a model is named by a file that it travels in."""
    return reference.endswith(SUFFIX)


def write(folder: Path, file: Path) -> None:
    """Seal a folder and write it as one file, which is there whole or not at all.

    Parameters
    ----------
    folder : Path
        Holds `MODEL`, `ORIGIN` and, where its trial is known, `RUN`.
    file : Path
        The file to write.
    """
    sealed.seal(folder)
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        with zipfile.ZipFile(unfinished, "w") as archive:
            for name, path in untrusted.files(folder).items():
                _store(archive, name, path)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def unpacked(file: Path) -> Iterator[Path]:
    """Hand out what is in a file of others, in a folder that goes afterwards; all of it was checked.

    Parameters
    ----------
    file : Path
        What `write` wrote.

    Raises
    ------
    ModelError
        If it is no such file, or one whose contents are not those that it was written with.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model file"
        try:
            with untrusted.opened(file, _LIMITS) as archive:
                _require_known(file, archive)
                archive.unpack(folder)
            for path in folder.rglob("*.safetensors"):
                untrusted.tensor_shapes(path)
        except DataError as error:
            raise ModelError(_without(str(error), folder, file)) from None
        with _told_of(folder, file):
            sealed.check(folder)
            yield folder


def digest_of(model: Path) -> str:
    """Return the digest that stands for the folder of a model: of its seal, or of what says it in older formats."""
    return digest.of_file(model / (sealed.SEAL if sealed.is_sealed(model) else "model.json"))


@contextmanager
def _told_of(folder: Path, file: Path) -> Iterator[None]:
    """Let messages name the file in place of the folder that it was unpacked to."""
    try:
        yield
    except Img2BrainError as error:
        if str(folder) not in str(error):
            raise
        raise ModelError(_without(str(error), folder, file)) from None


def _without(text: str, folder: Path, file: Path) -> str:
    return text.replace(str(folder / MODEL), str(file)).replace(str(folder), str(file))


def _store(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    """Store a file under a name, with nothing of this machine beside it."""
    info = zipfile.ZipInfo(name, _EPOCH)
    info.external_attr, info.create_system, info.file_size = 0o100644 << 16, 3, path.stat().st_size
    with path.open("rb") as source, archive.open(info, "w") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def _require_known(file: Path, archive: untrusted.Archive) -> None:
    """Refuse what is no file of a model before anything of it is unpacked."""
    for name in (sealed.SEAL, ORIGIN, f"{MODEL}/model.json"):
        if name not in archive.names:
            raise DataError(f"{file} must be a file of `img2brain model export`. It holds no {name!r}.")
    for name in archive.names:
        top = name.partition("/")[0]
        if top not in (MODEL, RUN, ORIGIN, sealed.SEAL):
            raise DataError(f"{file} must be a file of `img2brain model export`. It holds {quoted(name)}.")
        if name.endswith(".json") and archive.size(name) > _LARGEST_TEXT:
            raise DataError(f"{file}: {name!r} must have at most {_LARGEST_TEXT} bytes.")
