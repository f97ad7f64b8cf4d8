"""Resamples that are joint over the members of a study, drawn again where the data of all members are at hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from img2brain.catalog import METRICS
from img2brain.confirm import ConfirmationRows, confirmation_rows
from img2brain.datasets.base import Dataset, Split
from img2brain.leaderboard.bundles import contents
from img2brain.leaderboard.bundles.agreement import Difference
from img2brain.leaderboard.bundles.arithmetic import DATA, Checked
from img2brain.leaderboard.bundles.data import Data, difference, split_of
from img2brain.leaderboard.bundles.opening import Bundle, BundleRow
from img2brain.study.joint import joint_draws
from img2brain.tracking.reading import joint_files


class _Of(NamedTuple):
    """The data of a member."""

    dataset: Dataset
    split: Split


def check_joint(bundle: Bundle, rows: Mapping[str, BundleRow], found: Sequence[Checked], data: Data) -> list[Checked]:
    """Draw joint resamples again for the trials of which the data of each member were checked, and compare.

    Parameters
    ----------
    bundle : Bundle
        Holds them.
    rows : mapping of str to BundleRow
        All rows, by name.
    found : sequence of Checked
        What is known of them.
    data : Data
        The data at hand.

    Returns
    -------
    list of Checked
        Rows whose resamples are others are refused. What is not compared are the controls, whose predictions no bundle
        holds, and the members of which some data are not at hand.
    """
    levels = {item.row: item.level for item in found}
    different = dict(pair for group in _trials(rows.values(), levels) for pair in _compared(bundle, group, data))
    refused = {name: item for name, item in different.items() if item is not None}
    return [replace(item, level="", difference=refused[item.row]) if item.row in refused else item for item in found]


def _trials(rows: Iterable[BundleRow], levels: Mapping[str, str]) -> Iterator[list[BundleRow]]:
    """Yield the rows of each trial on all members, in the order of the study, where each was checked with its data."""
    groups: dict[tuple[str, int], dict[str, BundleRow]] = {}
    for row in rows:
        if row.trial.member and levels[row.name] == DATA:
            groups.setdefault(row.trial.key[:2], {})[row.trial.member] = row
    for group in groups.values():
        names = next(iter(group.values())).study.members
        if all(name in group for name in names):
            yield [group[name] for name in names]


def _compared(bundle: Bundle, group: Sequence[BundleRow], data: Data) -> Iterator[tuple[str, Difference | None]]:
    members = [_Of(dataset, split_of(row, dataset)) for row in group for dataset in [data.of(row)]]
    for row, of, draws in zip(group, members, joint_draws(members), strict=True):
        metrics = {name: METRICS[name] for name in row.study.metrics}
        found = confirmation_rows(of.dataset, of.split, metrics, draws)
        yield row.name, None if draws is None else _first_difference(bundle, row, found)


def _first_difference(bundle: Bundle, row: BundleRow, rows: ConfirmationRows) -> Difference | None:
    assert row.confirmation is not None, "a row that was checked with its data was published"
    files = dict(zip(row.confirmation.parts, contents.predictions_of(row.confirmation), strict=True))
    stored = [bundle.array(f"rows/{row.name}/{files[name]}") for name in rows.parts]
    predictions = np.concatenate([array.astype(np.float64) for array in stored if array is not None])
    again = rows.report(predictions)[rows.first].joint
    for name, file in joint_files().items():
        kept = bundle.array(f"rows/{row.name}/{file}")
        what = file.removesuffix(".npy").replace("/", ".")
        if kept is None or (told := difference(what, kept, again[name])):
            return Difference(what, "nothing", "an array") if kept is None else told
    return None
