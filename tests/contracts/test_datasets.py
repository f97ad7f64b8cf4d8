"""What every dataset owes: ours, that of somebody else, and that each debt is found where it is one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from img2brain import digest
from img2brain.catalog import LAYOUTS
from img2brain.datasets._selected import select
from img2brain.datasets.base import Dataset, Split, shuffled, split_rows
from img2brain.datasets.folder import FolderDataset
from img2brain.errors import ResourceError
from img2brain.spec import PreparationSpec, parse
from img2brain.testing import Specimen, check_dataset, dataset_checks
from tests.datasets.miniatures import MINIATURES

Make = Callable[..., Specimen]


def _change_folder(folder: Path) -> None:
    path = folder / "trainingfMRI" / "training.npy"
    responses = np.load(path)
    responses[-1, -1] += 1
    np.save(path, responses)


def _change_table(folder: Path) -> None:
    with np.load(folder / "responses.npz") as archive:
        responses = archive["responses"].copy()
    responses[0, 0] += 1
    np.savez(folder / "responses.npz", responses=responses)


@pytest.fixture
def specimen(
    request: pytest.FixtureRequest, recordings: Path, table: Path, table_layout: str, tmp_path: Path
) -> Specimen:
    kind = LAYOUTS[LAYOUTS.load(table_layout)]
    makes: dict[str, Callable[[], Specimen]] = {
        "sample data": lambda: Specimen(FolderDataset, recordings, _change_folder),
        "shuffled": lambda: Specimen(lambda path: shuffled(FolderDataset.open(path), 3), recordings, _change_folder),
        "selected": lambda: Specimen(lambda path: select(FolderDataset.open(path), "V1"), recordings, _change_folder),
        "a table of somebody else": lambda: Specimen(kind, table),
        "with its change": lambda: Specimen(kind, table, _change_table),
        "as an object": lambda: Specimen(kind.open(table)),
        "without a path": lambda: Specimen(lambda: Whole(tmp_path)),
    }
    return makes[request.param]()


@pytest.mark.parametrize(
    "specimen",
    [
        "sample data",
        "shuffled",
        "selected",
        "a table of somebody else",
        "with its change",
        "as an object",
        "without a path",
    ],
    indirect=True,
)
@pytest.mark.parametrize(("name", "check"), list(dataset_checks()))
def test_a_dataset_owes(name: str, check: Callable[[Specimen], None], specimen: Specimen) -> None:
    check(specimen)


@pytest.mark.parametrize("layout", MINIATURES)
def test_a_layout_of_ours_owes(layout: str, tmp_path: Path) -> None:
    mini = MINIATURES[layout](tmp_path / "mini")
    asked, kind = parse(PreparationSpec, dict(mini.asked), "the test"), LAYOUTS[layout]
    check_dataset(lambda path: kind.open_prepared(path, asked), mini.path, mini.change)


@pytest.mark.parametrize("layout", MINIATURES)
def test_a_layout_of_ours_reads_no_file_that_changed(layout: str, tmp_path: Path) -> None:
    mini = MINIATURES[layout](tmp_path / "mini")
    dataset = LAYOUTS[layout].open_prepared(mini.path, parse(PreparationSpec, dict(mini.asked), "the test"))
    dataset._responses(np.arange(2))
    assert dataset.files
    for file in dataset.files:
        was = file.stat().st_mtime_ns
        os.utime(file, ns=(was, was + 1_000_000))
        with pytest.raises(ResourceError, match="must stay as they are while they are read"):
            dataset._responses(np.arange(2))
        os.utime(file, ns=(was, was))


def test_every_layout_of_ours_is_checked() -> None:
    assert set(LAYOUTS._own) == {"folder", *MINIATURES}


class Whole(Dataset):
    """Ten training and four test pictures, repeats, regions and ceilings: owes nothing."""

    def __init__(self, folder: Path) -> None:
        random = np.random.default_rng(0)
        self.all_repeats = random.standard_normal((14, 2, 5)).astype(np.float32)
        self.all_responses = self.all_repeats.mean(axis=1)
        images = [folder / f"{place}.png" for place in range(14)]
        for place, path in enumerate(images):
            if not path.exists():
                Image.new("RGB", (4, 4), (place, 0, 0)).save(path)
        super().__init__(
            name="whole", n_voxels=5, images=images, n_test=4, rois={"V1": [0, 3]}, ncsnr=np.ones(5),
            noise_ceiling=np.full(5, 0.5),
        )  # fmt: skip
        self.break_down()

    def break_down(self) -> None:
        """Do nothing; a broken one does."""

    def read_responses(self, rows: Any) -> Any:
        return self.all_responses[rows]

    def read_repeats(self, rows: Any) -> Any:
        return self.all_repeats[rows]


class RowsAgree(Whole):
    def break_down(self) -> None:
        self.features = {"a": np.ones((13, 2))}


class ResponsesAreFiniteFloats(Whole):
    def break_down(self) -> None:
        self.all_responses[12, 1] = np.nan


class RowsInAnyOrderAndRepeated(Whole):
    def read_responses(self, rows: Any) -> Any:
        return self.all_responses[np.sort(rows)]


class ResponsesAreNew(Whole):
    buffer = np.empty((0, 5), np.float32)

    def read_responses(self, rows: Any) -> Any:
        if len(self.buffer) != len(rows):
            self.buffer = np.empty((len(rows), 5), np.float32)
        self.buffer[:] = self.all_responses[rows]
        return self.buffer


class DigestIsStable(Whole):
    def content_digests(self) -> Any:
        return {**super().content_digests(), "opened": secrets.token_hex()}


class DigestFollowsAResponse(Whole):
    def content_digests(self) -> Any:
        return {"name": self.name}


class DigestFollowsAnImage(Whole):
    @property
    def image_digests(self) -> Any:
        return tuple(digest.of_value(path.name) for path in self.images)


class ConfirmationRowsAreKept(Whole):
    def development(self, split: Split) -> Any:
        return super().development(Split(np.arange(self.n_images), split.train[:0], split.train[:0]))


class SplitCoversEachRowOnce(Whole):
    def split(self, spec: Any) -> Split:
        split = super().split(spec)
        return Split(split.train[1:], split.validation, split.confirmation)


class SplitKeepsTiesWhole(Whole):
    def break_down(self) -> None:
        self.groups = np.arange(14) % 3

    def split(self, spec: Any) -> Split:
        return split_rows(spec, self.n_training, self.n_test)


class Regions(Whole):
    def break_down(self) -> None:
        self.rois = {"": np.array([0])}


class RegionsOutside(Whole):
    def break_down(self) -> None:
        self.rois = {"V1": np.array([5])}


class Ceilings(Whole):
    def break_down(self) -> None:
        self.noise_ceiling = np.full(5, 50.0)


class RepeatsAndCounts(Whole):
    def read_counts(self, rows: Any) -> Any:
        return np.arange(len(rows))


class ImagesDecode(Whole):
    def break_down(self) -> None:
        self.images[3].write_bytes(b"no picture")


class WhereIsAText(Whole):
    def where(self, row: int) -> Any:
        return row


class Recognises(Whole):
    @classmethod
    def recognises(cls, path: Path) -> bool:
        return any(path.iterdir())


BROKEN = {
    RowsAgree: "rows_agree: The features 'a' must be finite, a row for each of 14 images.",
    ResponsesAreFiniteFloats: "responses_are_finite_floats: Responses must be finite.",
    RowsInAnyOrderAndRepeated: "rows_in_any_order_and_repeated: Responses must come in the order",
    ResponsesAreNew: "responses_are_new: What was read of responses must stay as it is",
    DigestIsStable: "digest_is_stable: The digest must be the same each time",
    DigestFollowsAResponse: "digest_follows_a_response: The digest must change with a response.",
    DigestFollowsAnImage: "digest_follows_an_image: The digest must change with the bytes of an image.",
    ConfirmationRowsAreKept: "confirmation_rows_are_kept: No development row must be a confirmation row.",
    SplitCoversEachRowOnce: "split_covers_each_row_once: A split must hold each row once.",
    SplitKeepsTiesWhole: "split_keeps_ties_whole: A split must keep tied rows on one side. It does not.",
    Regions: "regions: This must not raise DataError: The rois must give each region a name.",
    RegionsOutside: "regions: This must not raise DataError: The region 'V1' must hold voxels of 0..4. Got 5",
    Ceilings: "ceilings: This must not raise DataError: The noise_ceiling must be in 0..1",
    RepeatsAndCounts: "repeats_and_counts: The counts must come in the order",
    ImagesDecode: "images_decode: This must not raise DataError: The image",
    WhereIsAText: "where_is_a_text: It must say on one line where row 0 is kept. Got 0.",
    Recognises: "recognises: This must not raise FileNotFoundError",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_owed_is_found_by_the_check_that_is_meant_for_it(kind: Callable[[Path], Whole], tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as caught:
        check_dataset(lambda: kind(tmp_path))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(BROKEN[kind])  # type: ignore[index]
    assert len(lines) == 1, lines


def test_what_is_no_whole_dataset_is_told_first(tmp_path: Path) -> None:
    class NoReading(Dataset):
        pass

    class NoFacts(Dataset):
        def __init__(self) -> None:
            self.name = "no facts"

        def read_responses(self, rows: Any) -> Any:
            return rows

    for kind, line in (
        (NoReading, "complete: It must define 'read_responses'."),
        (NoFacts, "complete: This must not raise DataError: NoFacts must hand its facts to Dataset.__init__"),
        (lambda: 3, "complete: It must be a Dataset. Got int."),
    ):
        with pytest.raises(AssertionError) as caught:
            check_dataset(kind)  # type: ignore[arg-type]
        (found,) = str(caught.value).splitlines()
        assert found.startswith(line)


def test_a_digest_of_ones_own_that_forgets_responses_is_found_by_a_change(table: Path, table_layout: str) -> None:
    kind = LAYOUTS[LAYOUTS.load(table_layout)]

    class Forgetful(kind):  # type: ignore[misc, valid-type]
        def content_digests(self) -> Any:
            return {}

    for specimen in (Specimen(Forgetful, table), Specimen(Forgetful, table, _change_table)):
        with pytest.raises(AssertionError, match=r"^The digest must change with a response\."):
            dict(dataset_checks())["digest_follows_a_response"](specimen)
    with pytest.raises(AssertionError, match="True for a folder of its own"):
        dict(dataset_checks())["recognises"](Specimen(kind, table / "pictures"))
