"""Registered models, loaded and used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from img2brain.catalog import LIBRARIES, REGRESSORS
from img2brain.crown import crown_by_hand
from img2brain.errors import DataError, ModelError, SpecError, quoted
from img2brain.home import Home
from img2brain.hub import fetched, is_on_hub
from img2brain.model import EncodingModel
from img2brain.model._outputs import FILES, write
from img2brain.model_file import MODEL, is_model_file, unpacked
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.registry import Registry


def load_model(
    reference: str,
    home: Home | Path | str = "mlruns",
    plugins: Sequence[str] = (),
    *,
    weights: Path | str | None = None,
    check: bool = False,
) -> EncodingModel:
    """Load a registered model.

    Parameters
    ----------
    reference : str
        ``"NAME@champion"``, ``"NAME/VERSION"`` or ``"NAME"`` (its champion); or the folder of a saved model, a file of
        `export_model`, or ``"hf://OWNER/NAME"``, a repository of a hub: these need no home.
    home : Home, Path or str
        The home, or its folder.
    plugins : sequence of str
        Components of others that the model needs, ``PATH.py:NAME`` each. Those that it was fitted with are found in its
        home.
    weights : Path or str, optional
        A checkpoint file, for a model that was saved with ``weights="reference"``; by default its library's weights.
    check : bool
        Compare the model with its golden example now, and not before its first prediction.

    Returns
    -------
    EncodingModel
        Predicts responses to images.

    Raises
    ------
    ModelError
        If there is no such model, its files were changed, or weights that are not among them cannot be had; and with
        `check` if it computes something else than when it was saved.
    StoreError
        If there is no home in the folder; none is made.
    """
    for plugin in plugins:
        load_plugin(plugin)
    with _files_of(reference, home) as (folder, kept):
        model = EncodingModel.load(folder, kept, weights)
    if check:
        model.check()
    return model


@contextmanager
def _files_of(reference: str, home: Home | Path | str) -> Iterator[tuple[Path, Path | None]]:
    """Hand out the folder of a model, and where the plug-ins are that it may need."""
    if is_saved(reference):
        yield Path(reference), None
    elif is_model_file(reference):
        with unpacked(Path(reference)) as folder:
            yield folder / MODEL, folder_of(home) / "plugins"
    elif is_on_hub(reference):
        with fetched(reference) as folder:
            yield folder, folder_of(home) / "plugins"
    else:
        place = home if isinstance(home, Home) else Home.existing(home)
        registry = Registry(TrackingStore(place))
        with registry.files(registry.find(reference)) as folder:
            yield folder, place.plugins


def folder_of(home: Home | Path | str) -> Path:
    """Return the folder of a home, whether there is one."""
    return home.folder if isinstance(home, Home) else Path(home)


def crown_model(reference: str, home: Home | Path | str = "mlruns", by: str = "") -> str:
    """Make a registered version the champion of its name by hand, whatever it scored.

    Parameters
    ----------
    reference : str
        ``"NAME/VERSION"``.
    home : Home, Path or str
        The home, or its folder.
    by : str
        Who decides; kept with the version in the registry.

    Returns
    -------
    str
        What is kept of it, such as ``"by hand of Ann, in place of version 3"``.

    Raises
    ------
    ModelError
        If there is no such version, or `by` is not one line of at most 200 printable characters.
    StoreError
        If there is no home in the folder; none is made.

    Notes
    -----
    A version that is registered later takes the crown where it is told apart from this one; those that are there
    already do not, though their studies go on.
    """
    name, _, number = reference.removeprefix("models:/").partition("/")
    if not number:
        raise ModelError(f"The version to crown must be named as NAME/VERSION. Got {quoted(reference)}.")
    store = TrackingStore(home if isinstance(home, Home) else Home.existing(home))
    registry = Registry(store)
    with store.lock:
        return crown_by_hand(registry.find(f"{name}/{number}"), registry, by)


def is_saved(reference: str) -> bool:
    """Tell whether a model is named by the folder that it was saved in, so that no home is needed."""
    return (Path(reference) / "model.json").is_file()


def load_plugin(name: str) -> None:
    """Make a regressor or a library of networks known that a model needs, in this process.

    `mlflow.pyfunc.load_model` knows no home: before it loads such a model, the files are named here.

    Parameters
    ----------
    name : str
        ``PATH.py:NAME``; the file must be the one that the model was fitted with, as the home keeps it.

    Raises
    ------
    SpecError
        If the file holds none of this name.
    """
    reasons = []
    for catalog in (REGRESSORS, LIBRARIES):
        try:
            catalog.load(name)
        except SpecError as error:
            reasons.append(error)
        else:
            return
    raise reasons[0]


def predict_to_file(
    model: EncodingModel,
    images: Sequence[Path],
    out: Path,
    rois: Sequence[str] | None = None,
    *,
    device: str = "auto",
) -> tuple[int, int]:
    """Predict the responses to images and write them as ``.npy``, ``.csv`` or ``.parquet``.

    Parameters
    ----------
    model : EncodingModel
        See `load_model`.
    images : sequence of Path
        Files, or folders that stand for their images (see `EncodingModel.predict`); for a model of features that came
        with the data, ``.npy`` files of them.
    out : Path
        The file to write; it is there whole or not at all. A table has a column for the names of the files, and one
        for each voxel, called by its number, or ``REGION/VOXEL`` where there are `rois`.
    rois : sequence of str, optional
        The regions whose voxels are written, by default all voxels.
    device : str
        Where the network runs.

    Returns
    -------
    n_images, n_voxels : int

    Raises
    ------
    DataError
        If a file is absent or does not decode, or a folder holds no image.
    SpecError
        If a region is not known, or named twice.
    """
    if out.suffix not in FILES:
        raise DataError(f"The file to write must end in {', '.join(FILES[:-1])} or {FILES[-1]}. Got {out}.")
    if not out.parent.is_dir():
        raise DataError(f"The folder of the file to write must exist. Got {out}.")
    given = _joined(model, images) if model.takes_features else list(images)
    found = model.predict(given, rois, as_frame=True, device=device)
    unfinished = out.with_name(f".{out.name}.unfinished{out.suffix}")
    try:
        write(found, unfinished)
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
    return len(found), found.shape[1]


def _joined(model: EncodingModel, files: Sequence[Path]) -> NDArray[np.generic]:
    """Read the features of several files, one below the other."""
    return np.concatenate([model.features_of(file) for file in files])
