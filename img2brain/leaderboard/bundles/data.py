"""The second level of a check: whoever has the data scores the predictions of a row again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain import digest
from img2brain.catalog import METRICS
from img2brain.confirm import ConfirmationRows, ScoredRows, confirmation_rows
from img2brain.datasets._layouts import open_dataset
from img2brain.datasets.base import Dataset, Split, shuffled
from img2brain.errors import DataError, Img2BrainError
from img2brain.findings import Findings
from img2brain.leaderboard.bundles import contents
from img2brain.leaderboard.bundles.agreement import Difference
from img2brain.leaderboard.bundles.arithmetic import ARITHMETIC, DATA, Checked
from img2brain.leaderboard.bundles.closeness import first_apart
from img2brain.leaderboard.bundles.confirmed import said_of
from img2brain.leaderboard.bundles.opening import Bundle, BundleRow
from img2brain.leaderboard.bundles.recipe import NotChecked, Recipe
from img2brain.records import ConfirmationRecord
from img2brain.tracking.names import part_array

# Predictions are kept in float32 where that holds what varies of them, and resamples are taken in it.
SCORES, RESAMPLES = 1e-6, 1e-4
_SAME = 1e-9


class Data:
    """The data at hand, by the name of the dataset or by any.

    Parameters
    ----------
    folders : mapping of str to Path
        By the name that rows call the dataset; under an empty name, or one that begins with a blank, for any.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = dict(folders)
        self._opened: dict[str, Dataset | str] = {}

    def of(self, row: BundleRow) -> Dataset:
        """Return the data of a row.

        Raises
        ------
        NotChecked
            If they are not at hand.
        DataError
            If a folder was named for this dataset, and holds other data.
        """
        recipe, name, wanted = Recipe(row), row.study.dataset.name, row.study.dataset.digest
        others = [folder for key, folder in self._folders.items() if not key.strip()]
        reasons = ["its data are not at hand: name their folder with --data"]
        for folder in [self._folders[name]] if name in self._folders else others:
            found = self._open(folder, recipe)
            if not isinstance(found, str) and found.digest == wanted:
                return found
            told = found if isinstance(found, str) else f"the data in {folder} have the digest {_short(found.digest)}"
            reasons.insert(0, told)
        if name in self._folders:
            raise DataError(f"The data of {name!r} must have the digest {_short(wanted)}. Got: {reasons[0]}.")
        raise NotChecked(reasons[0])

    def _open(self, folder: Path, recipe: Recipe) -> Dataset | str:
        key = f"{folder} {recipe.taken!r} {recipe.shuffle}"
        if key not in self._opened:
            try:
                dataset = open_dataset(folder, **recipe.taken.model_dump(exclude_none=True))
                self._opened[key] = dataset if recipe.shuffle is None else shuffled(dataset, recipe.shuffle)
            except (Img2BrainError, OSError) as error:
                self._opened[key] = f"the data in {folder} cannot be opened: {str(error).rstrip('.')}"
        return self._opened[key]


def check_data(bundle: Bundle, row: BundleRow, checked: Checked, data: Data) -> Checked:
    """Score the predictions of a row again where its data are at hand, and compare all that follows from them.

    What is not compared are the controls and the layer of each voxel, whose predictions no bundle holds.

    Returns
    -------
    Checked
        Raised to the level `DATA`, refused, or as it was with the reason why.
    """
    if checked.level != ARITHMETIC:
        return checked
    try:
        different = _different(bundle, row, data)
    except NotChecked as why:
        return replace(checked, missing=(*checked.missing, str(why)))
    return replace(checked, level="", difference=different) if different else replace(checked, level=DATA, missing=())


def _different(bundle: Bundle, row: BundleRow, data: Data) -> Difference | None:
    if row.confirmation is None:
        raise NotChecked("it was not published, so that nothing but a rerun tells more")
    files = dict(zip(row.confirmation.parts, contents.predictions_of(row.confirmation), strict=True))
    predictions = {name: bundle.array(f"rows/{row.name}/{file}") for name, file in files.items()}
    if any(array is None for array in predictions.values()):
        raise NotChecked("its predictions are not in the bundle")
    dataset = data.of(row)
    split = split_of(row, dataset)
    found = confirmation_rows(dataset, split, {name: METRICS[name] for name in row.study.metrics})
    if different := other_parts(row.confirmation, found):
        return different
    for name, rows in found.parts.items():
        if different := _of_part(bundle, row, name, rows, predictions[name]):
            return different
    return None


def other_parts(record: ConfirmationRecord, found: ConfirmationRows) -> Difference | None:
    """Tell where the parts of the rows are not those that the data have."""
    if (record.ranking, sorted(record.parts)) != (found.first, sorted(found.parts)):
        return Difference("confirmation.parts", ", ".join(record.parts), ", ".join(found.parts))
    for name, rows in found.parts.items():
        if rows.digest != record.parts[name].rows:
            return Difference(f"{said_of(name)}.rows", _short(record.parts[name].rows), _short(rows.digest))
    return None


def _of_part(bundle: Bundle, row: BundleRow, name: str, rows: ScoredRows, predictions: Any) -> Difference | None:
    """Score the predictions of a part again."""
    if predictions.shape != (shape := (rows.n_images, len(rows.ceiling.share))):
        return Difference(f"{said_of(name)}.predictions", str(predictions.shape), str(shape))
    return _first_array(bundle, row, name, rows.report(predictions.astype(np.float64)).findings)


def split_of(row: BundleRow, dataset: Dataset) -> Split:
    """Return the rows of a trial.

    Raises
    ------
    NotChecked
        If they cannot be told.
    """
    try:
        split = dataset.split(Recipe(row).split)
    except Img2BrainError as error:
        raise NotChecked(f"its rows cannot be divided so here: {str(error).rstrip('.')}") from None
    if split.digest != row.trial.rows.split:
        raise NotChecked("how its rows were divided is not in the bundle")
    return split


def _short(text: str) -> str:
    return text[: digest.SHORT]


def _first_array(bundle: Bundle, row: BundleRow, part: str, found: Findings) -> Difference | None:
    """Compare the arrays that follow from the predictions with those of the bundle."""
    for name, again in found.to_arrays().items():
        stored, what = bundle.array(f"rows/{row.name}/{part_array(part, name)}"), f"{said_of(part)}.{name}"
        if stored is None:
            return Difference(what, "nothing", f"an array {again.shape}")
        if different := difference(what, stored, again):
            return different
    return None


def difference(what: str, stored: NDArray[Any], found: NDArray[Any]) -> Difference | None:
    """Compare an array with the one that follows from the data; None where they agree."""
    if stored.shape != found.shape or stored.dtype.kind != found.dtype.kind:
        return Difference(what, f"{stored.dtype} {stored.shape}", f"{found.dtype} {found.shape}")
    if stored.dtype.kind != "f":
        return None if np.array_equal(stored, found) else Difference(what, "others", "those of the data")
    tolerance = RESAMPLES if what.endswith("resampled") else _SAME if "ceiling" in what else SCORES
    place = first_apart(stored, found, tolerance)
    if place is None:
        return None
    within = tolerance * max(1.0, abs(float(found[place])))
    return Difference(f"{what}{list(place)}", f"{stored[place]:.9g}", f"{found[place]:.9g} within {within:.0e}")
