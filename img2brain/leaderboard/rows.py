"""The rows of leaderboards and their ranks, as plain data.

Scores are comparable within a *board* only: the same data (`dataset_digest`) and the same rows (`split_digest`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from img2brain import digest
from img2brain.errors import DataError
from img2brain.leaderboard.confirmed import Confirmed
from img2brain.statistics.ties import Place


@dataclass(frozen=True, kw_only=True)
class Row:
    """One finished trial, as plain data.

    Attributes
    ----------
    dataset : str
        The dataset's name.
    backbone, weights, trained, layer, preprocessing : str
        Where the features come from. `trained` is ``"trained"``, ``"untrained"`` or ``"trained (file)"``.
    n_components : int
        Principal components that the regressor saw.
    regressor : str
        Its name in the catalog.
    alpha : float, optional
        Absent where the regressor has none.
    parameters : mapping of str to float or str
        The regressor's other parameters, such as ``l1_ratio``; as text where they are no numbers.
    validation_median_r, confirmation_median_r : float
        Pearson r, median over voxels; NaN where no voxel has one, None where the rows were not scored.
    n_voxels, n_undefined : int
        Voxels scored, and those among them whose validation r is undefined.
    study, run_id : str
    trial : int
        Where the trial is found again.
    champion : bool
        Whether the registered model with the alias ``champion`` comes from this trial.
    registered : str, optional
        The registered model of this trial and its version, such as ``"v4 v3"``.
    dataset_digest, split_digest : str
        The data and the rows that were scored.
    unit : str, optional
        The unit of the responses.
    n_train, n_validation, n_confirmation : int, optional
        Images in each part of the split.
    confirmed : Confirmed, optional
        What the confirmation rows say of it, where it was published.
    tie : Place, optional
        Where it stands among results of others, of which only the scores of voxels are known.
    note : str
        What has to be known of it.
    """

    dataset: str
    backbone: str
    weights: str
    trained: str
    layer: str
    n_components: int
    regressor: str
    alpha: float | None = None
    parameters: Mapping[str, float | str] = field(default_factory=dict)
    preprocessing: str = ""
    validation_median_r: float
    confirmation_median_r: float | None = None
    n_voxels: int
    n_undefined: int = 0
    study: str
    trial: int
    run_id: str
    champion: bool = False
    registered: str | None = None
    dataset_digest: str
    split_digest: str
    unit: str | None = None
    n_train: int | None = None
    n_validation: int | None = None
    n_confirmation: int | None = None
    confirmed: Confirmed | None = None
    tie: Place | None = None
    note: str = ""

    @property
    def board(self) -> str:
        """The name of the board that this row belongs to, with both digests shortened."""
        data, split = self.dataset_digest[: digest.SHORT], self.split_digest[: digest.SHORT]
        return f"{self.dataset} (data {data}, split {split})"


def boards(rows: Iterable[Row]) -> list[list[Row]]:
    """Group rows that may be ranked together, in the order of the datasets' names.

    Parameters
    ----------
    rows : iterable of Row

    Returns
    -------
    list of list of Row
        One list for each pair of dataset digest and split digest, best row first.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.dataset_digest, row.split_digest), []).append(row)
    ordered = [sorted(group, key=_order) for group in groups.values()]
    return sorted(ordered, key=lambda group: (min(row.dataset for row in group), *_board(group[0])))


def placed(rows: Iterable[Row]) -> Iterator[tuple[int | None, Row]]:
    """Yield the rows of one board with their ranks, best first.

    Equal scores share a rank (1, 1, 3) and follow each other by name; a row without a score comes last and has no rank.
    Results of others share one where their voxels cannot tell them apart.

    Parameters
    ----------
    rows : iterable of Row

    Yields
    ------
    rank : int or None
    row : Row

    Raises
    ------
    DataError
        If the rows are not all of one dataset and one split.
    """
    ordered = sorted(rows, key=_order)
    _check_one_board(ordered)
    rank, last = 0, math.nan
    for place, row in enumerate(ordered, start=1):
        score = row.validation_median_r
        if row.tie is not None:
            rank, last = row.tie.rank, score
        else:
            rank, last = (rank, last) if score == last else (place, score)
        yield (rank if math.isfinite(score) else None), row


def printable(text: str) -> str:
    r"""Spell out what would act instead of being seen: line ends, terminal codes, changes of direction.

    Examples
    --------
    >>> printable("layer\x1b[2J")
    'layer\\x1b[2J'
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def parameters_text(parameters: Mapping[str, float | str]) -> str:
    """Print the parameters of a regressor, by name.

    Examples
    --------
    >>> parameters_text({"n_neighbors": 5, "l1_ratio": 0.5, "alphas": "[0.1, 1.0]"})
    'alphas=[0.1, 1.0], l1_ratio=0.5, n_neighbors=5'
    """
    texts = {name: value if isinstance(value, str) else f"{value:.4g}" for name, value in parameters.items()}
    return ", ".join(f"{name}={text}" for name, text in sorted(texts.items()))


def _board(row: Row) -> tuple[str, str]:
    return row.dataset_digest, row.split_digest


def _check_one_board(rows: list[Row]) -> None:
    if len({_board(row) for row in rows}) > 1:
        found = " and ".join(sorted({row.board for row in rows})[:2])
        raise DataError(f"The 'rows' of a ranking must share one dataset and one split. Got {found}.")


def _order(row: Row) -> tuple[Any, ...]:
    score, alpha = row.validation_median_r, -math.inf if row.alpha is None else row.alpha
    where = (row.backbone, row.weights, row.preprocessing, row.layer, row.n_components)
    how = (row.regressor, alpha, parameters_text(row.parameters))
    return (-score if math.isfinite(score) else math.inf, *where, *how, row.study, row.trial, row.run_id)
