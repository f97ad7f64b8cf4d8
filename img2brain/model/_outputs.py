"""What a model gives: the voxels of regions, and predictions as a table with the names of images and regions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from img2brain.datasets._images import find_images
from img2brain.errors import DataError, SpecError, UnknownComponentError
from img2brain.plain import inert

if TYPE_CHECKING:
    import pandas as pd

Voxels = NDArray[np.intp]
Chosen = list[tuple[str, Voxels]]  # regions in the order that they were asked for

FILES = (".npy", ".csv", ".parquet")


def as_list(images: Any) -> list[Any]:
    """Return a list of images, whether one is given or many; a folder stands for its images, by name."""
    single = isinstance(images, str | bytes | Path) or hasattr(images, "getbands")  # a PIL image
    if single or (isinstance(images, np.ndarray) and images.ndim < 4):
        return _expanded(images)
    if not isinstance(images, Iterable):
        raise DataError(
            f"Images must be a path, bytes, a PIL image, an array or a sequence of them. Got {type(images).__name__}."
        )
    return [found for image in images for found in _expanded(image)]


def _expanded(image: Any) -> list[Any]:
    return list(find_images(Path(image))) if _is_folder(image) else [image]


def _is_folder(image: Any) -> bool:
    try:
        return isinstance(image, str | Path) and Path(image).is_dir()
    except (OSError, ValueError):  # a name that no file can have, which is said where it is opened
        return False


def choose(regions: Mapping[str, Voxels], rois: Sequence[str] | str | None) -> Chosen | None:
    """Find the voxels of some regions, in the order that they are asked for; None stands for all voxels.

    Raises
    ------
    UnknownComponentError
        For a region that the model does not know, with the close matches, or those that it knows.
    SpecError
        If none is named, or one is named twice.
    """
    if rois is None:
        return None
    asked = [rois] if isinstance(rois, str) else list(rois)
    if unknown := [name for name in asked if not isinstance(name, str) or name not in regions]:
        raise UnknownComponentError("region", str(unknown[0]), regions)
    if not asked or len(set(asked)) < len(asked):
        raise SpecError(f"The 'rois' must name one region or several, each once. Got {asked}.")
    return [(name, regions[name]) for name in asked]


def taken(predictions: NDArray[Any], chosen: Chosen | None) -> NDArray[Any]:
    """Take the columns of some regions."""
    if chosen is None:
        return predictions
    return predictions[:, np.concatenate([np.empty(0, np.intp), *(voxels for _, voxels in chosen)])]


def framed(predictions: NDArray[Any], images: Sequence[Any], chosen: Chosen | None) -> pd.DataFrame:
    """Make a table of predictions: a row for each image, a column for each voxel, or for each region and voxel."""
    import pandas as pd

    names = _names(images)
    index = pd.RangeIndex(len(predictions), name="image") if names is None else pd.Index(names, name="image")
    return pd.DataFrame(predictions, index=index, columns=_columns(predictions.shape[1], chosen))


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write the numbers of a table as ``.npy``, or all of it, with a column for the images, as CSV or Parquet."""
    if path.suffix == ".npy":
        np.save(path, frame.to_numpy())
        return
    flat = frame.set_axis([_label(column) for column in frame.columns], axis=1).reset_index()
    if path.suffix == ".csv":
        flat.rename(columns=inert).to_csv(path, index=False)
    else:
        flat.to_parquet(path, index=False)


def _columns(n_voxels: int, chosen: Chosen | None) -> Any:
    import pandas as pd

    if chosen is None:
        return pd.RangeIndex(n_voxels, name="voxel")
    pairs = [(name, int(voxel)) for name, voxels in chosen for voxel in voxels]
    return pd.MultiIndex.from_tuples(pairs, names=["region", "voxel"])


def _label(column: Any) -> str:
    return "/".join(map(str, column)) if isinstance(column, tuple) else str(column)


def _names(images: Sequence[Any]) -> list[str] | None:
    """Name the files of images: without folders where that tells them apart; None where one is no file."""
    files = [_file(image) for image in images]
    if not files or not all(files):
        return None
    short = [Path(file).name for file in files]
    return short if len(set(short)) == len(short) else files


def _file(image: Any) -> str:
    return str(image) if isinstance(image, str | Path) else str(getattr(image, "filename", ""))
