"""The layout of NSD: the surface, the two tables of its design, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from img2brain.datasets import _hdf5, open_dataset
from img2brain.datasets._images import open_pixels
from img2brain.errors import DataError, ShapeError
from tests.datasets.miniatures import nsd


def test_the_surface_is_read_without_its_nan_vertices(tmp_path: Path) -> None:
    mini = nsd.write_nsd_surface(tmp_path / "nsd")
    dataset = open_dataset(mini.path)
    assert dataset.preparation["NaN voxels"] == "1 of 9 are left out"
    assert dataset.preparation["responses"] == "fsaverage, betas_fithrf_GLMdenoise_RR, 2 sessions"
    found = dataset._responses(np.arange(dataset.n_images))
    np.testing.assert_allclose(found, mini.responses, rtol=5e-6, atol=2e-6)
    assert {region: voxels.tolist() for region, voxels in dataset.rois.items()} == dict(mini.rois)
    for path, pixels in zip(dataset.images, mini.pictures, strict=True):
        np.testing.assert_array_equal(open_pixels(path), pixels)


def test_both_tables_of_the_design_tell_the_same(tmp_path: Path) -> None:
    mini = nsd.write_nsd(tmp_path / "nsd")
    one = open_dataset(mini.path)
    (mini.path / "nsddata" / "experiments" / "nsd" / "nsd_expdesign.mat").unlink()
    other = open_dataset(mini.path)
    assert (one.digest, one.images, one.n_test) == (other.digest, other.images, other.n_test)
    note = "; 1 of 18 voxels of the brain are not valid in all"
    assert one.preparation["responses"] == f"func1pt8mm, betas_fithrf_GLMdenoise_RR, 2 sessions{note}"


def test_responses_are_in_percent_where_they_are_not_normalised(tmp_path: Path) -> None:
    mini = nsd.write_nsd(tmp_path / "nsd")
    dataset = open_dataset(mini.path, normalise="none", repeats="single")
    file = mini.path / "nsddata_betas/ppdata/subj02/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_session01.hdf5"
    with h5py.File(file) as opened:
        first = opened["betas"][:, 0, 0, 0] / np.float32(300)
    singles = dataset._responses(np.arange(dataset.n_images))[:, 0]
    assert set(first.astype(np.float32).tolist()) <= set(singles.tolist())


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    mini = nsd.write_nsd(tmp_path / "nsd")
    with pytest.raises(DataError, match=r"'responses' must be a space .* there are: 'func1pt8mm'"):
        open_dataset(mini.path, responses="func1mm")
    with pytest.raises(DataError, match=r"must hold the betas 'b1'\. It holds 'betas_fithrf"):
        open_dataset(mini.path, responses="func1pt8mm/b1")
    nsd._save(mini.path / "nsddata/ppdata/subj02/func1pt8mm/brainmask.nii.gz", np.ones(nsd.SHAPE[::-1], np.int16))
    with pytest.raises(ShapeError, match=r"brainmask\.nii\.gz' must have shape \(4, 3, 2\), .* Got \(2, 3, 4\)"):
        open_dataset(mini.path)
    (mini.path / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5").unlink()
    with pytest.raises(DataError, match=r'give it as images = "nsd_stimuli\.hdf5"'):
        open_dataset(mini.path)


def test_opening_reads_no_response(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mini = nsd.write_nsd(tmp_path / "nsd")

    def refuse(*_: object) -> None:
        raise AssertionError("a response was read")

    monkeypatch.setattr(_hdf5, "take", refuse)
    dataset = open_dataset(mini.path)
    assert (dataset.n_images, dataset.n_voxels) == (24, 17)
    with pytest.raises(AssertionError, match="was read"):
        dataset.read_responses(np.arange(1))
