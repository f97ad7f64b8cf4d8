"""What one pass over responses finds, and how they drift."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from img2brain.data_report.seen import Seen, drift_of, evenly, five, look
from img2brain.data_report.suspicions import of_numbers
from img2brain.datasets._looks import Numbers
from img2brain.datasets._recorded import Recorded

F64 = NDArray[np.float64]


def numbers(values: F64) -> Numbers:
    return Numbers("These", values.shape, lambda start, stop: values[start:stop], str)


def noise(n_rows: int = 200, n_voxels: int = 40, seed: int = 0) -> F64:
    return np.random.default_rng(seed).standard_normal((n_rows, n_voxels))


def told(*parts: F64) -> list[str]:
    """Say what the numbers of a training and a test part show."""
    seen = {name: look(numbers(values)) for name, values in zip(("training", "test"), parts, strict=False)}
    return [each.text for each in of_numbers(seen, None, None)]


@given(st.integers(1, 5000), st.integers(1, 50))
def test_some_are_spread_evenly(n: int, most: int) -> None:
    found = evenly(n, most)
    assert len(found) == min(n, most)
    assert found[0] == 0
    assert most == 1 or found[-1] == n - 1
    assert len(found) < 3 or np.ptp(np.diff(found)) <= 1


@given(st.integers(0, 99), st.sampled_from([0.0, 1e6]))
def test_means_and_spreads_are_those_of_numpy(seed: int, level: float) -> None:
    values = level + noise(30, 7, seed)
    found = look(numbers(values))
    for have, want in (
        (found.row_mean, values.mean(axis=1)), (found.row_sd, values.std(axis=1)),
        (found.voxel_mean, values.mean(axis=0)), (found.voxel_sd, values.std(axis=0)),
    ):  # fmt: skip
        np.testing.assert_allclose(have, want, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(found.values, values)
    assert (found.n_zero, found.n_not_finite) == (0, 0)


def test_what_is_not_finite_has_no_part_in_a_mean() -> None:
    values = noise(50, 6)
    values[0, 1], values[3, 2], values[4] = np.inf, np.nan, np.nan
    found = look(numbers(values))
    finite = np.where(np.isfinite(values), values, np.nan)
    np.testing.assert_allclose(found.voxel_mean, np.nanmean(finite, axis=0))
    np.testing.assert_allclose(found.voxel_sd, np.nanstd(finite, axis=0))
    np.testing.assert_allclose(np.delete(found.row_mean, 4), np.nanmean(np.delete(finite, 4, axis=0), axis=1))
    assert (found.n_not_finite, np.isnan(found.values).sum()) == (8, 8)


def test_blocks_give_what_one_block_gives() -> None:
    values = noise(5000, 600)
    found = look(numbers(values))
    np.testing.assert_allclose(found.voxel_sd, values.std(axis=0))
    np.testing.assert_array_equal(found.values, values[np.ix_(found.rows, found.voxels)])
    assert found.values.shape == (2000, 600)


def test_noise_is_not_suspicious() -> None:
    assert told(noise(), noise(60, seed=1)) == []


def with_far_row(values: F64) -> None:
    values[17] += 30


def with_loud_row(values: F64) -> None:
    values[17] *= 1000


def with_copied_row(values: F64) -> None:
    values[17] = values[3]


def with_zeros(values: F64) -> None:
    values[:, ::3] *= np.random.default_rng(0).random((200, 14)) > 0.9


def with_two_units(values: F64) -> None:
    values[:, 3] *= 1e5


def with_copied_voxel(values: F64) -> None:
    values[:, 9] = values[:, 2]


def with_neighbours(values: F64) -> None:
    values += np.roll(values, 1, axis=0)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (with_far_row, "1 training row has a mean response far from that of the others"),
        (with_loud_row, "1 training row has responses that vary over voxels far more than others: 17."),
        (with_copied_row, "1 training row has exactly the responses of another row: rows 3 and 17."),
        (with_zeros, "% of the training responses are exactly 0"),
        (with_two_units, "are they in one unit?"),
        (with_copied_voxel, "repeat another one in the training rows, the first: 2 and 9."),
        (with_neighbours, "Training rows beside each other have responses that correlate at 0."),
    ],
    ids=lambda item: item.__name__ if callable(item) else "",
)
def test_what_is_planted_is_said(spoil: object, says: str) -> None:
    values = noise()
    assert callable(spoil)
    spoil(values)
    found = told(values)
    assert any(says in text for text in found), found


def test_parts_of_other_scales_are_said() -> None:
    assert any("were both normalised in one way?" in text for text in told(noise(), noise(60) + 2))
    assert any("Voxels vary 5" in text for text in told(noise(), 5 * noise(60)))


@pytest.mark.parametrize("sessions", [True, False])
def test_a_moving_baseline_is_found(sessions: bool) -> None:
    values, session = noise(400, 30), np.arange(400) // 50
    labels = session.tolist() if sessions else None
    still = drift_of(Recorded("trials", 400, values.__getitem__, labels), 30)
    assert still is not None
    assert still.moved == 0
    assert abs(still.median) < 0.03
    moving = values + np.random.default_rng(1).standard_normal((8, 30))[session]
    found = drift_of(Recorded("trials", 400, moving.__getitem__, labels), 30)
    assert found is not None
    assert found.moved > 0.8
    assert 0.25 < found.median < 0.7  # half of the variance was put there, and twentieths cut sessions
    assert (len(found.stretches), found.by_session) == ((8, True) if sessions else (20, False))
    (said,) = [each.text for each in of_numbers({}, found, None)]
    assert 'normalise = "session"' in said if sessions else "the baseline drifts" in said


def test_blank_and_broken_trials_are_found() -> None:
    values = noise(300, 30)
    values[40], values[70] = 0.0, values[70] + 50
    found = drift_of(Recorded("trials", 300, values.__getitem__, ["one"] * 150 + ["two"] * 150), 30)
    texts = [each.text for each in of_numbers({}, found, None)]
    assert any("have a mean far from that of the others" in text and text.endswith(": 70.") for text in texts), texts
    assert any("hold one value at all voxels" in text and text.endswith(": 40.") for text in texts), texts


def test_values_beyond_what_can_be_squared_are_passed_over() -> None:
    values = noise(100, 30) * 1e200
    assert np.isfinite(look(numbers(values)).voxel_mean).all()
    assert drift_of(Recorded("rows", 100, values.__getitem__), 30) is not None


def test_few_rows_have_no_drift() -> None:
    values = noise(30, 5)
    assert drift_of(Recorded("rows", 30, values.__getitem__), 5) is None
    assert drift_of(Recorded("trials", 30, values.__getitem__, ["one"] * 30), 5) is None


def test_percentiles_are_of_what_is_finite() -> None:
    assert five(np.array([np.nan, 1.0, 2.0, 3.0])) == pytest.approx((1.1, 1.5, 2.0, 2.5, 2.9))
    assert five(np.array([np.nan])) is None


def test_seen_knows_its_size() -> None:
    found: Seen = look(numbers(noise(10, 3)))
    assert (found.n_rows, found.n_values) == (10, 30)
