"""Noise ceilings against simulated truth."""

from __future__ import annotations

import numpy as np
import pytest

from img2brain.errors import ShapeError
from img2brain.statistics.noise_ceiling import from_ncsnr, from_repeats, given, unknown


def repeated(ratio: float, counts: np.ndarray, n_voxels: int = 40, seed: int = 0) -> np.ndarray:
    """Repeats (images, repeats, voxels) of signal 1 and noise `ratio`, NaN where an image was shown less often."""
    random = np.random.default_rng(seed)
    signal = random.standard_normal((len(counts), 1, n_voxels))
    repeats = signal + ratio * random.standard_normal((len(counts), int(counts.max()), n_voxels))
    repeats[np.arange(int(counts.max()))[None] >= counts[:, None]] = np.nan
    return repeats


@pytest.mark.parametrize("counts", [[2], [3], [10], [1, 2, 3], [4, 5, 9]])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_halves_recover_the_ceiling(counts: list[int], ratio: float) -> None:
    shown = np.resize(counts, 1500)
    truth = 1 / (1 + ratio**2 * np.mean(1 / shown))
    found = from_repeats(repeated(ratio, shown), n_splits=20)
    assert np.median(found.share) == pytest.approx(truth, abs=0.02)
    assert np.median(found.r) == pytest.approx(np.sqrt(truth), abs=0.02)
    assert found.origin == "split halves"
    assert found.reliable.all()


@pytest.mark.parametrize("counts", [[1], [3], [1, 2, 3]])
def test_ncsnr_gives_the_ceiling(counts: list[int]) -> None:
    shown = np.resize(counts, 300)
    truth = 1 / (1 + 2.0**2 * np.mean(1 / shown))
    assert from_ncsnr(np.array([0.5]), shown).share == pytest.approx([truth])
    simulated = repeated(2.0, shown, n_voxels=200)
    means = np.nanmean(simulated, axis=1)
    noiseless = np.random.default_rng(0).standard_normal((300, 1, 200))[:, 0]
    r = [np.corrcoef(means[:, i], noiseless[:, i])[0, 1] for i in range(200)]
    assert np.median(r) == pytest.approx(np.sqrt(truth), abs=0.02)


def test_a_voxel_without_signal_is_not_reliable() -> None:
    repeats = repeated(0.5, np.full(100, 4), n_voxels=3)
    repeats[:, :, 1] = np.random.default_rng(1).standard_normal((100, 4))
    repeats[:, :, 2] = 7.0
    found = from_repeats(repeats)
    assert found.reliable.tolist() == [True, False, False]
    assert found.n_unreliable == 2


def test_given_ceilings_are_taken_as_they_are() -> None:
    found = given(np.array([0.0, 0.04, 0.25, np.nan]))
    assert found.reliable.tolist() == [False, False, True, False]
    np.testing.assert_allclose(found.r, [0.0, 0.2, 0.5, np.nan])
    assert unknown(3).n_unreliable == 3


def test_repeats_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(images, repeats, voxels\). Got \(3, 2\)"):
        from_repeats(np.ones((3, 2)))


def shifted(baseline: float, missing: str, n_images: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Signals and repeats of noise 1, each session with a baseline of its own; some missing."""
    random = np.random.default_rng(seed)
    n_repeats = {"seven of ten": 10, "other sessions": 4}.get(missing, 3)
    signal = random.standard_normal((n_images, 1, 60))
    repeats = signal + random.standard_normal((n_images, n_repeats, 60))
    repeats += baseline * random.standard_normal((1, n_repeats, 60))
    if missing == "one":
        repeats[5, 1] = np.nan
    if missing == "a tenth":
        repeats[random.random((n_images, n_repeats)) < 0.1] = np.nan
    if missing == "seven of ten":
        repeats[random.random((n_images, n_repeats)).argsort(axis=1) >= 3] = np.nan
    if missing == "other sessions":
        repeats[: n_images // 4, 2:] = np.nan
        repeats[n_images // 4 :, :2] = np.nan
    if missing == "once elsewhere":
        repeats[: n_images // 2, 2] = np.nan
        repeats[n_images // 2 :, :2] = np.nan
    return signal[:, 0], repeats


@pytest.mark.parametrize("missing", ["none", "one", "a tenth", "seven of ten", "other sessions", "once elsewhere"])
@pytest.mark.parametrize("baseline", [0.0, 1.0, 3.0, 30.0])
def test_baselines_of_sessions_are_what_they_are_to_the_mean_that_is_scored(missing: str, baseline: float) -> None:
    signal, repeats = shifted(baseline, missing)
    means = np.nanmean(repeats, axis=1)
    known = ~np.isnan(means).any(axis=1)
    truth = [np.corrcoef(means[known, v], signal[known, v])[0, 1] ** 2 for v in range(60)]
    found = from_repeats(repeats)
    assert np.median(found.share) == pytest.approx(np.median(truth), abs=0.04)
    if missing == "none":
        assert found.share.mean() == pytest.approx(0.75, abs=0.01)
        assert found.reliable.all()
        np.testing.assert_allclose(found.share, from_repeats(shifted(0.0, missing)[1]).share, atol=1e-9)


def test_repeats_in_random_order_have_the_same_ceiling() -> None:
    _, repeats = shifted(0.0, "none")
    mixed = np.random.default_rng(1).permuted(repeats, axis=1)
    assert from_repeats(mixed).share.mean() == pytest.approx(from_repeats(repeats).share.mean(), abs=0.01)


def test_noise_alone_has_no_ceiling_however_few_images() -> None:
    repeats = np.random.default_rng(0).standard_normal((6, 4, 2000)) + 50 * np.arange(4)[None, :, None]
    found = from_repeats(repeats, n_splits=20)
    assert np.mean(found.reliable) < 0.06


@pytest.mark.parametrize("n_each", [1, 2, 20, 50])
def test_baselines_of_sessions_without_a_common_image_are_no_signal(n_each: int) -> None:
    n_parts = 100 // n_each
    random = np.random.default_rng(3)
    repeats = random.standard_normal((100, 2 * n_parts, 200)) + 5 * random.standard_normal((1, 2 * n_parts, 200))
    part = np.arange(100) // n_each
    repeats[part[:, None] != np.arange(2 * n_parts)[None] // 2] = np.nan
    found = from_repeats(repeats, n_splits=10)
    assert found.reliable.mean() < 0.1
    assert (found.share > 0.5).sum() == 0


def test_voxels_without_a_repeat_have_no_ceiling_and_no_warning() -> None:
    repeats = np.full((50, 3, 2), np.nan)
    assert np.isnan(from_repeats(repeats).share).all()
    repeats[..., 0] = repeated(0.5, np.full(50, 3), n_voxels=1)[..., 0]
    assert from_repeats(repeats).reliable.tolist() == [True, False]
