"""A bundle checked, level by level: its arithmetic, its predictions on the data, its rows repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from img2brain.errors import DataError, SpecError, did_you_mean
from img2brain.leaderboard.bundles.arithmetic import Checked, check_bundle
from img2brain.leaderboard.bundles.data import Data, check_data
from img2brain.leaderboard.bundles.opening import BundleRow, opened
from img2brain.leaderboard.bundles.signature import signer_of
from img2brain.records import TrialRecord
from img2brain.study.rejoin import check_joint
from img2brain.study.rerun import rerun as repeated


@dataclass(frozen=True)
class Verified:
    """What was found of a bundle.

    Attributes
    ----------
    path, digest, origin : str
        Which bundle it is, and whose.
    signer : str
        Who signed it; empty where that was not asked for.
    rows : tuple of Checked
        The highest level that holds for each row, or why it is refused.
    """

    path: str
    digest: str
    origin: str
    signer: str
    rows: tuple[Checked, ...]

    @property
    def refused(self) -> Checked | None:
        """The first row that does not agree."""
        return next((row for row in self.rows if row.difference is not None), None)

    def require(self) -> None:
        """Refuse a bundle with a row that does not agree.

        Raises
        ------
        DataError
            Naming the first such row, and in it the first difference.
        """
        if (row := self.refused) is not None:
            raise DataError(f"{self.path}: the row {row.name!r}: {row.difference}.")


def verify_bundle(
    path: Path | str,
    *,
    data: Mapping[str, Path | str] | None = None,
    rerun: bool | Sequence[str] = False,
    weights: Sequence[Path | str] = (),
    signers: Path | str | None = None,
) -> Verified:
    """Check a bundle: for each row, the highest level that holds.

    Parameters
    ----------
    path : Path or str
        A folder, or one file.
    data : mapping of str to path, optional
        Folders of data by the name of the dataset; under an empty name, whatever it is called.
    rerun : bool or sequence of str
        Whether rows are repeated, which takes as long as running them: all, or those named ``STUDY#NUMBER``, on each
        member of the study.
    weights : sequence of path
        Files of checkpoints that a rerun needs.
    signers : path, optional
        A file of allowed signers, as ``ssh-keygen -Y`` takes it: a bundle that none of them signed is refused.

    Returns
    -------
    Verified
        Of a row that does not agree, the first difference; `Verified.require` raises it.

    Raises
    ------
    DataError
        If it is no bundle, its files are not those that its manifest names, or they do not fit together.

    Notes
    -----
    *records*: what is stored agrees with itself, but some of it cannot be computed again, and is named. *arithmetic*:
    every summary, interval, difference to a control, rank, tie and flag follows from the arrays, within 1e-11, and the
    looks from their chain. *data*: rows and noise ceiling are those of the data, and scores, intervals and significance
    follow from the predictions, within 1e-6 (resamples 1e-4); where the data of all members of a study are at hand, so
    do the resamples that are joint over them. *rerun*: the row was evaluated, refitted, confirmed and
    compared with its controls again, its summaries within .002 in float32 and .01 in bfloat16.

    Who makes up arrays that agree with each other passes the first two; predictions that were made up pass the third;
    nothing that was not computed so passes the last.
    """
    with opened(Path(path)) as bundle:
        signer = "" if signers is None else signer_of(bundle, Path(signers))
        found = check_bundle(bundle)
        rows = {row.name: row for row in bundle.rows()}
        chosen = _chosen(rows, rerun)
        if data or rerun:
            at_hand = Data({name: Path(folder) for name, folder in (data or {}).items()})
            found = [_with_data(item, check_data(bundle, rows[item.row], item, at_hand)) for item in found]
            found = check_joint(bundle, rows, found, at_hand)
            if chosen:
                found = repeated(bundle, chosen, found, at_hand, [Path(file) for file in weights])
        ordered = sorted(found, key=lambda item: _place(rows[item.row].trial))
        return Verified(bundle.path, bundle.digest, bundle.record.origin, signer, tuple(ordered))


def _with_data(before: Checked, after: Checked) -> Checked:
    return before if before.difference is not None else after


def _place(trial: TrialRecord) -> tuple[str, int, str]:
    """Return where a row stands in the answer: by study, in the order of its trials, and of its members."""
    return trial.key


def _chosen(rows: Mapping[str, BundleRow], asked: bool | Sequence[str]) -> dict[str, BundleRow]:
    """Return the rows to repeat."""
    if isinstance(asked, bool):
        return dict(rows) if asked else {}
    named: dict[str, list[BundleRow]] = {}
    for row in rows.values():
        named.setdefault(f"{row.trial.study}#{row.trial.number}", []).append(row)
    if absent := next((name for name in asked if name not in named), None):
        raise SpecError(f"The bundle has no row {absent!r}. {did_you_mean(absent, named)}")
    return {row.name: row for name in asked for row in named[name]}
