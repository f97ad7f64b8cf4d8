"""What every metric owes, whoever wrote it.

A check takes a metric, or a class that makes one without arguments. One that depends on the noise ceiling is told one
where it has to score.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.errors import Img2BrainError
from img2brain.metrics.base import Metric, Sums
from img2brain.statistics.bootstrap import Bootstrap, resamples
from img2brain.testing._suite import Check, named, owed, refused, run

Array = NDArray[np.float64]
Component = Metric | Callable[[], Metric]

N_IMAGES, N_VOXELS = 40, 6
SHARE = np.linspace(0.4, 0.9, N_VOXELS)


def check_metric(metric: Component) -> None:
    """Check all that a metric owes.

    Parameters
    ----------
    metric : Metric or type
        A metric, or a class that extends `Metric` and is called without arguments.

    Raises
    ------
    AssertionError
        With a line for each check that failed, starting with its name.

    Examples
    --------
    >>> from img2brain.metrics.pearson import Pearson
    >>> check_metric(Pearson)
    """
    run(_CHECKS, metric)


def metric_checks() -> Iterator[tuple[str, Check[Component]]]:
    """Yield each check with its name.

    Examples
    --------
    >>> from img2brain.metrics.pearson import Pearson
    >>> checks = dict(metric_checks())
    >>> checks["voxels_keep_their_places"](Pearson())
    """
    return named(_CHECKS)


def check_complete(component: Component) -> None:
    """Check that it extends `Metric`, and says what it is called and what stands for all voxels."""
    absent = sorted(getattr(component, "__abstractmethods__", ()) if isinstance(component, type) else ())
    owed(not absent, f"It must define {', '.join(repr(name) for name in absent)}.")
    metric: Any = _made(component)
    owed(isinstance(metric, Metric), f"It must extend Metric. Got {type(metric).__name__}.")
    label, summary = getattr(metric, "label", None), metric.summary
    owed(isinstance(label, str) and label.strip() and label.isprintable(), f"'label' must be a name. Got {label!r}.")
    owed(summary in ("median", "mean"), f"'summary' must be 'median' or 'mean'. Got {summary!r}.")
    kinds = ("correlation", "determination", "other")
    owed(metric.kind in kinds, f"'kind' must be one of {', '.join(map(repr, kinds))}. Got {metric.kind!r}.")
    owed(isinstance(metric.scale_free, bool), f"'scale_free' must be True or False. Got {metric.scale_free!r}.")


def check_scores_have_the_shape_of_the_voxels(component: Component) -> None:
    """Check that there is one score for each voxel, in float64, also of a single voxel and of a view."""
    Y, P = _rows()
    for n_voxels in (N_VOXELS, 1):
        for order in ("C", "F"):
            rows = (np.array(array[:, :n_voxels], order=order) for array in (Y, P))
            found: Any = _ready(component, SHARE[:n_voxels]).from_rows(*rows)
            owed(isinstance(found, np.ndarray), f"Scores must be an array. Got {type(found).__name__}.")
            owed(found.shape == (n_voxels,), f"Scores must have the shape {(n_voxels,)}. Got {found.shape}.")
            owed(found.dtype == np.float64, f"Scores must be in float64. Got {found.dtype}.")


def check_ordinary_scores_are_finite(component: Component) -> None:
    """Check that rows without anything special to them have a score, from the smallest to the largest units."""
    Y, P = _rows()
    for unit in (1e-6, 1.0, 1e6):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = _ready(component).from_rows(unit * Y, unit * P)
        owed(np.isfinite(found).all(), f"Responses and predictions of the size of {unit:g} must have a score.")


def check_a_perfect_prediction_is_best(component: Component) -> None:
    """Check that a score is higher where the prediction is better."""
    Y, _ = _rows()
    metric, noise = _ready(component), np.random.default_rng(1).standard_normal(Y.shape)
    perfect, near, far = (metric.from_rows(Y, Y + level * noise) for level in (0.0, 0.5, 4.0))
    owed((perfect >= near - 1e-12).all(), "The responses themselves must score at least as high as with some noise.")
    owed(near.mean() > far.mean(), "A higher score must be better: with little noise it must be above that with much.")


def check_voxels_keep_their_places(component: Component) -> None:
    """Check that voxels in another order are scored in that order."""
    Y, P = _rows()
    order = np.random.default_rng(1).permutation(N_VOXELS)
    shuffled = _ready(component, SHARE[order]).from_rows(Y[:, order], P[:, order])
    owed(_near(shuffled, _scores(component)[order]), "Voxels in another order must be scored in that order.")


def check_a_range_of_voxels_is_scored_alike(component: Component) -> None:
    """Check that the score of a voxel does not depend on those beside it, and that `voxels` keeps up with the range."""
    Y, P = _rows()
    for part in (slice(2, 5), slice(5, 6)):
        found = _ready(component).voxels(part).from_rows(Y[:, part], P[:, part])
        owed(_near(found, _scores(component)[part]), "After 'voxels(part)' those voxels must score as among all.")


def check_images_may_come_in_any_order(component: Component) -> None:
    """Check that no score depends on the order of the images."""
    Y, P = _rows()
    order = np.random.default_rng(1).permutation(N_IMAGES)
    found = _ready(component).from_rows(Y[order], P[order])
    owed(_near(found, _scores(component)), "Images in another order must give the same scores.")


def check_inputs_are_left_alone(component: Component) -> None:
    """Check that responses, predictions and sums are not written to, and may be read-only."""
    Y, P = _rows()
    sums, before = Sums.from_rows(Y, P), (Y.copy(), P.copy())
    _ready(component).from_rows(Y, P)
    for name, array, copy in zip(("Y", "P"), (Y, P), before, strict=True):
        owed(np.array_equal(array, copy), f"{name} must not be written to.")
        array.setflags(write=False)
    _ready(component).from_rows(Y, P)
    _from_sums(_ready(component), sums)
    owed(_equal(sums, Sums.from_rows(Y, P)), "'from_sums' must not write to the sums: other metrics share them.")


def check_scores_are_repeatable(component: Component) -> None:
    """Check that the same rows have the same scores, whatever was scored before."""
    Y, P = _rows()
    metric = _ready(component)
    first = metric.from_rows(Y, P).copy()
    metric.from_rows(P, Y)
    owed(np.array_equal(metric.from_rows(Y, P), first), "The same rows must have the same scores each time.")


def check_constant_responses_are_undefined(component: Component) -> None:
    """Check that a voxel whose response never changes is NaN without a warning, and leaves others alone."""
    Y, P = _rows()
    Y[:, 1] = 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, single = _ready(component).from_rows(Y, P), _ready(component).from_rows(Y[:1], P[:1])
    owed(np.isnan(found[1]), f"A voxel whose response is constant must be NaN. Got {found[1]}.")
    owed(np.isnan(single).all(), "The responses to a single image are constant: their scores must be NaN.")
    _owed_to_others(component, found, 1)


def check_constant_predictions_do_not_pay(component: Component) -> None:
    """Check that a constant prediction is NaN or below a perfect one, without a warning, and leaves others alone."""
    Y, P = _rows()
    P[:, 1] = Y[:, 1].mean()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = _ready(component).from_rows(Y, P)
    perfect = _ready(component).from_rows(Y, Y)
    owed(not found[1] >= perfect[1], "A constant prediction must be NaN, or score below the responses themselves.")
    _owed_to_others(component, found, 1)


def check_sums_are_enough(component: Component) -> None:
    """Check that `from_sums`, where there is one, gives what `from_rows` gives, undefined scores too."""
    Y, P = _rows()
    Y[:, 1], P[:, 2] = 0.1, 0.1
    metric = _ready(component)
    found = _from_sums(metric, Sums.from_rows(Y, P))
    owed(found is None or _near(found, metric.from_rows(Y, P)), "'from_sums' must give what 'from_rows' gives.")


def check_folds_add_up(component: Component) -> None:
    """Check that `from_sums`, where there is one, gives of parts that are put together what it gives of the whole."""
    Y, P = _rows()
    parts = (slice(0, 1), slice(1, 15), slice(15, None))
    together = reduce(Sums.merge, (Sums.from_rows(Y[part], P[part]) for part in parts))
    found = _from_sums(_ready(component), together)
    owed(found is None or _near(found, _scores(component)), "The sums of folds must give the scores of all rows.")


def check_sums_may_have_any_shape(component: Component) -> None:
    """Check that `from_sums`, where there is one, takes many sums of the same voxels at once."""
    metric, names = _ready(component), ("mean_y", "mean_p", "yy", "pp", "yp")
    each = [Sums.from_rows(*_rows(seed)) for seed in range(6)]
    stacked = {name: np.reshape([getattr(item, name) for item in each], (2, 3, N_VOXELS)) for name in names}
    found = _from_sums(metric, Sums(N_IMAGES, **stacked))
    if found is not None:
        expected = np.reshape([_from_sums(metric, item) for item in each], (2, 3, N_VOXELS))
        owed(np.shape(found) == expected.shape, f"Sums of the shape {expected.shape} must give scores of that shape.")
        owed(_near(found, expected), "Many sums at once must give the scores of each.")


def check_scale_free_is_true(component: Component) -> None:
    """Check that no score changes with units or offsets, where `scale_free` says so."""
    Y, P = _rows()
    metric = _ready(component)
    if metric.scale_free:
        for scored in (metric.from_rows(3 * Y - 7, P), metric.from_rows(Y, 0.2 * P + 5)):
            owed(_near(scored, _scores(component)), "With 'scale_free', units and offsets must change no score.")


def check_scores_lie_where_their_kind_says(component: Component) -> None:
    """Check that a correlation lies in [-1, 1], and that a coefficient of determination is at most 1."""
    Y, P = _rows()
    metric = _ready(component)
    least, most = {"correlation": (-1.0, 1.0), "determination": (-np.inf, 1.0)}.get(metric.kind, (-np.inf, np.inf))
    for predictions in (Y, -Y, P, 3 * P):
        found = metric.from_rows(Y, predictions)
        inside = np.isnan(found) | ((least <= found) & (found <= most))
        owed(inside.all(), f"A score of the kind {metric.kind!r} must lie in {least:g}..{most:g}. Got {found}.")


def check_resamples_are_scores_of_repeated_rows(component: Component) -> None:
    """Check that intervals can be had: a resample must score as the rows that it repeats."""
    Y, P = _rows()
    metric, each = _ready(component), {str(voxel): np.array([voxel]) for voxel in range(N_VOXELS)}
    found = Bootstrap(Y, metric, 5).summaries(P, each).resampled[:, 1:]
    for counts, scores in zip(resamples(N_IMAGES, 5).astype(int), found, strict=True):
        drawn = np.repeat(np.arange(N_IMAGES), counts)
        owed(_near(scores, metric.from_rows(Y[drawn], P[drawn]), 1e-4), "A resample must score as the rows it repeats.")


def check_the_ceiling_is_one_of_each_voxel(component: Component) -> None:
    """Check that `ceiling` gives None, or a number for each voxel, NaN where nothing is known of it."""
    share = np.where(np.arange(N_VOXELS) == 1, np.nan, SHARE)
    before = share.copy()
    found: Any = _ready(component).ceiling(share)
    owed(np.array_equal(share, before, equal_nan=True), "'ceiling' must not write to the share.")
    if found is not None:
        owed(np.shape(found) == (N_VOXELS,), f"'ceiling' must have the shape {(N_VOXELS,)}. Got {np.shape(found)}.")
        undefined = np.flatnonzero(np.isnan(found)).tolist()
        owed(undefined == [1], "'ceiling' must be NaN where the share is not known, and only there.")


def check_a_ceiling_is_asked_for(component: Component) -> None:
    """Check that a metric with `with_ceiling` refuses to score without it, and stays as it is when it is told one."""
    metric: Any = _made(component)
    if not hasattr(metric, "with_ceiling"):
        return
    share = SHARE.copy()
    bound = metric.with_ceiling(share)
    owed(isinstance(bound, Metric), f"'with_ceiling' must return a Metric. Got {type(bound).__name__}.")
    owed(np.array_equal(share, SHARE), "'with_ceiling' must not write to the share.")
    refused(Img2BrainError, lambda: metric.from_rows(*_rows()), "A score without the ceiling")
    again, once = (item.with_ceiling(SHARE[::-1]).from_rows(*_rows()) for item in (bound, metric))
    owed(_near(again, once), "A metric that knows a ceiling must take another one.")


def check_an_unknown_ceiling_is_undefined(component: Component) -> None:
    """Check that a voxel of which nothing is known, or can be explained, is NaN and leaves others alone."""
    if not hasattr(_made(component), "with_ceiling"):
        return
    share = SHARE.copy()
    share[1], share[2] = np.nan, 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = _ready(component, share).from_rows(*_rows())
    owed(np.isnan(found[1:3]).all(), "A voxel whose ceiling is 0, or not known, must be NaN.")
    _owed_to_others(component, found, 1, 2)


def check_nothing_is_written(component: Component) -> None:
    """Check that scoring leaves no file in the working folder."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        _scores(component)
        left = sorted(path.name for path in Path(folder).iterdir())
    owed(not left, f"Scoring must write no file. Got {', '.join(left)}.")


_CHECKS = (
    check_complete,
    check_scores_have_the_shape_of_the_voxels,
    check_ordinary_scores_are_finite,
    check_a_perfect_prediction_is_best,
    check_voxels_keep_their_places,
    check_a_range_of_voxels_is_scored_alike,
    check_images_may_come_in_any_order,
    check_inputs_are_left_alone,
    check_scores_are_repeatable,
    check_constant_responses_are_undefined,
    check_constant_predictions_do_not_pay,
    check_sums_are_enough,
    check_folds_add_up,
    check_sums_may_have_any_shape,
    check_scale_free_is_true,
    check_scores_lie_where_their_kind_says,
    check_resamples_are_scores_of_repeated_rows,
    check_the_ceiling_is_one_of_each_voxel,
    check_a_ceiling_is_asked_for,
    check_an_unknown_ceiling_is_undefined,
    check_nothing_is_written,
)


def _made(component: Component) -> Metric:
    return component if isinstance(component, Metric) else component()


def _ready(component: Component, share: Array = SHARE) -> Metric:
    """Return a metric that can score these voxels."""
    metric: Any = _made(component)
    ready: Metric = metric.with_ceiling(share) if hasattr(metric, "with_ceiling") else metric
    return ready


def _rows(seed: int = 0) -> tuple[Array, Array]:
    """Return responses, and predictions that share half of their variance."""
    rng = np.random.default_rng(seed)
    signal, noise, error = rng.standard_normal((3, N_IMAGES, N_VOXELS))
    return signal + 0.7 * noise + 2, signal + 0.7 * error + 1.5


def _scores(component: Component) -> Array:
    """Score the rows that are nothing special."""
    return _ready(component).from_rows(*_rows())


def _owed_to_others(component: Component, found: Array, *undefined: int) -> None:
    """Check that voxels beside some that are undefined score as they do without these."""
    alone, beside = (np.delete(scores, undefined) for scores in (_scores(component), found))
    owed(_near(beside, alone), "A voxel that is undefined must leave the scores of others as they are.")


def _from_sums(metric: Any, sums: Sums) -> Array | None:
    """Score sums; None where the metric needs rows."""
    return metric.from_sums(sums) if hasattr(metric, "from_sums") else None


def _equal(one: Sums, other: Sums) -> bool:
    return all(np.array_equal(value, vars(other)[name]) for name, value in vars(one).items())


def _near(found: Any, expected: Any, tolerance: float = 1e-8) -> bool:
    """Tell whether scores are equal but for rounding, and undefined at the same voxels."""
    size = float(np.max(np.abs(np.nan_to_num(expected)), initial=1.0))
    return bool(np.allclose(found, expected, rtol=0.0, atol=tolerance * size, equal_nan=True))
