"""Small parts of the work of a study that are done and timed: what a whole takes follows from them."""

from __future__ import annotations

from functools import cache, lru_cache
from itertools import islice
from typing import Any

import numpy as np

from img2brain.backbones import Backbone, accelerated, load_backbone
from img2brain.catalog import METRICS, REGRESSORS
from img2brain.datasets._images import open_pixels, size_of
from img2brain.datasets.base import Dataset, Split
from img2brain.errors import FitError, Img2BrainError
from img2brain.features.extract import activations, find_batch_size, find_device
from img2brain.features.features import Features
from img2brain.features.network import choose_precision
from img2brain.features.pooling import Pooled
from img2brain.machine import core_seconds
from img2brain.metrics.base import FromSums, NeedsCeiling, Sums
from img2brain.moments import Moments
from img2brain.spec import NO_POOLING, BackboneSpec, StudySpec
from img2brain.statistics.bootstrap import Bootstrap
from img2brain.study import needs

_VALUE_S = 8e-9  # to read a response of a trial, z-score it and add it to a mean
_LARGE_BYTES = 2e9  # of responses of which no few are read fast, since whole sessions are normalised
_SMALL, _MIDDLE = 64, 512  # voxels of the fits that are timed
_RESAMPLED = 1 << 20  # responses that are resampled
SOME = 8  # pictures that are decoded


def picture_bytes(dataset: Dataset) -> float:
    """Return the mean size of some pictures."""
    some = dataset.images[:: max(1, len(dataset.images) // SOME)][:SOME]
    sizes = [path.stat().st_size for path in some if path.is_file()]
    return sum(sizes) / len(sizes) if sizes else 0.0


def picture_s(dataset: Dataset) -> float:
    """Time the decoding of some pictures."""
    some = dataset.images[:SOME]
    if not some:
        return 0.0
    return core_seconds(lambda: [open_pixels(path, dataset.presentation) for path in some]) / len(some)


def are_alike(dataset: Dataset) -> bool:
    """Tell whether pictures have one size, so that they are compared by their pixels."""
    sizes = [size_of(path) for path in dataset.images[:SOME]]
    return len(sizes) > len(set(sizes))


def row_s(dataset: Dataset, split: Split) -> float:
    """Time the reading of some responses; of many, where sessions are normalised as wholes, say what it takes."""
    values = dataset.n_voxels * max(1.0, dataset.recorded.n / max(1, dataset.n_images))
    if dataset.n_images * dataset.n_voxels * 4 > _LARGE_BYTES:
        return _VALUE_S * values
    rows = split.train[: max(1, min(256, (1 << 24) // dataset.n_voxels))]
    development = dataset.development(split)
    development.responses(rows)
    return core_seconds(lambda: development.responses(rows), 0.05) / len(rows)


def layers_of(bank: Features) -> list[str]:
    """Name the layers that a pass computes, each once."""
    return list(dict.fromkeys(block.layer for block in bank.widths()))


@lru_cache(maxsize=1)
def fresh(item: BackboneSpec) -> Backbone:
    """Build a network without its weights."""
    return load_backbone(item.name, "random:0", item.preprocessing)


def image_s(item: BackboneSpec, spec: StudySpec, dataset: Dataset, bank: Features) -> float:
    """Time some pictures on their way through a fresh network, the first batch aside."""
    device = find_device(spec.device)
    dtype = choose_precision(spec.precision, len(dataset.images), device)
    backbone, blocks = fresh(item), list(bank.widths())
    extractor = backbone.extractor(layers_of(bank))
    kinds = backbone.layer_kinds([block.layer for block in blocks if block.pooling != NO_POOLING])
    network = Pooled(accelerated(extractor, device, dtype), blocks, kinds)
    size = find_batch_size(network.n_widest, dtype, device)
    shown = list(islice(dataset.images, 3 * size))
    passing = activations(
        network, backbone.preprocessing, shown, device, dtype, size, n_together=size,
        presentation=dataset.presentation,
    )  # fmt: skip
    next(passing)
    n_others = len(shown) - min(size, len(shown))
    if not n_others:
        return core_seconds(
            lambda: list(activations(network, backbone.preprocessing, shown, device, dtype, size))
        ) / len(shown)
    return core_seconds(lambda: list(passing)) / n_others


def fit_s(spec: StudySpec, name: str, trials: needs.TrialSizes, member: needs.MemberSizes) -> float:
    """Return what a fit and its scores take, from those of few voxels: some part follows their number."""
    size = max(1, min(round(trials.mean_size), 1024))
    few, more = (min(n, member.n_voxels) for n in (_SMALL, _MIDDLE))
    try:
        first, second = (core_seconds(_fit(spec, name, size, n, member)) for n in (few, more))
    except (FitError, Img2BrainError, ValueError):  # of numbers drawn by chance
        return 0.0
    each = max(0.0, second - first) / max(1, more - few) or second / more
    return first + each * (member.n_voxels - few)


def _fit(spec: StudySpec, name: str, size: int, n_voxels: int, member: needs.MemberSizes) -> Any:
    """Return a fit to numbers drawn by chance, and its scores."""
    random = np.random.default_rng(0)
    n_rows = min(member.n_train, 4096)
    X, Y = random.standard_normal((n_rows, size)), random.standard_normal((n_rows, n_voxels))
    kind = REGRESSORS[name]
    metrics = [METRICS[metric] for metric in spec.metrics if not isinstance(METRICS[metric], NeedsCeiling)]
    if not hasattr(kind, "fit_folds"):

        def by_rows() -> None:
            predicted = kind().fit(X, Y).predict(X[: member.n_scored])
            for metric in metrics:
                metric.from_rows(Y[: len(predicted)], predicted)

        return by_rows
    moments = Moments.from_rows(X, Y)
    unit = kind().alpha_scale(moments) if hasattr(kind, "alpha_scale") else 1.0
    options = {"alpha": 0.1 * unit} if "alpha" in kind.search else {}
    n_folds = int(getattr(kind(), "n_folds", 1))

    def by_moments() -> None:
        fitted = kind(**options).fit_folds([moments] * n_folds)
        sums = Sums.from_moments(fitted.coef_.T, fitted.intercept_, moments)
        for metric in metrics:
            metric.from_sums(sums) if isinstance(metric, FromSums) else metric.from_rows(Y, fitted.predict(X))

    by_moments()
    return by_moments


def resample_s(spec: StudySpec, member: needs.MemberSizes) -> float:
    """Time the resamples of few voxels, and return what those of all take."""
    n_images = member.n_published
    if n_images < 2 or isinstance(METRICS[spec.metrics[0]], NeedsCeiling):
        return 0.0
    n_voxels = min(member.n_voxels, _MIDDLE, max(8, _RESAMPLED // n_images))
    return _resampled_s(spec.metrics[0], n_images, n_voxels) * member.n_voxels / n_voxels


@cache
def _resampled_s(metric: str, n_images: int, n_voxels: int) -> float:
    random = np.random.default_rng(0)
    Y, P = random.standard_normal((2, n_images, n_voxels))
    bootstrap = Bootstrap(Y, METRICS[metric])
    return core_seconds(lambda: bootstrap.summaries(P, {}))
