"""What each stage of a study takes, from the sizes of its parts alone: memory, disk, readings and work.

Every formula says what is held, kept or multiplied; what a core needs for it is measured, see `img2brain.study.plan`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from img2brain._mapped import LARGE_BYTES
from img2brain.evaluate import MOMENTS_BYTES
from img2brain.features import pca
from img2brain.predictions import n_together_of
from img2brain.spec import ALL, PCA
from img2brain.statistics.bootstrap import N_RESAMPLES

RESPONSES_BYTES = 1 << 28  # of responses that are read at once
CHUNK_BYTES = 1 << 28  # of scores of resamples
LIBRARIES_BYTES = 850 << 20  # the libraries themselves, with what they hold of small arrays
PAGES_BYTES = 5 << 19  # of the pages of a study, some 2 MB of which draw its figures, and of its leaderboard
TRIAL_BYTES = 24 << 10  # of a trial's record, and of what MLflow and Optuna keep of it
_SHARED_BYTES = 2 << 20  # of the databases of a home


@dataclass(frozen=True)
class MemberSizes:
    """The data of a member of a study.

    Attributes
    ----------
    n_train, n_scored, n_confirmation, n_voxels : int
        Rows that are trained on, that validate, in all turns together, and that confirm; voxels.
    n_folds : int
        Turns to validate.
    n_repeats : int
        Single repeats of confirmation rows that are read for a noise ceiling; 0 where it is known without.
    n_regions : int
        Regions of interest.
    item_bytes : int
        Of a response.
    """

    n_train: int
    n_scored: int
    n_confirmation: int
    n_voxels: int
    n_folds: int = 1
    n_repeats: int = 0
    n_regions: int = 0
    item_bytes: int = 4

    @property
    def n_development(self) -> int:
        """Rows that a published model is fitted to."""
        return self.n_train if self.n_folds > 1 else self.n_train + self.n_scored

    @property
    def n_images(self) -> int:
        """All rows."""
        return self.n_development + self.n_confirmation

    @property
    def n_published(self) -> int:
        """Rows that a published model is reported on: those that validate, where none confirm."""
        return self.n_confirmation or self.n_scored


@dataclass(frozen=True)
class FeatureSizes:
    """The features of a network, or those that came with the data.

    Attributes
    ----------
    name : str
        What it is called.
    widths : sequence of int
        Features of each block that a pass has still to compute.
    n_blocks : int
        All blocks, also those that are there.
    bases : sequence of str
        What spaces are reduced to.
    item_bytes : int
        Of a feature, as a pass keeps it.
    parameter_bytes : int
        Of the network.
    n_controls : int
        What a published model of it has to beat.
    axes_width : float
        The mean number of features of its blocks: what the axes of a published model follow.
    kept_bytes : int
        Of the parameters that a published model keeps: those up to its layer.
    """

    name: str
    widths: Sequence[int]
    n_blocks: int
    bases: Sequence[str] = (PCA,)
    item_bytes: int = 4
    parameter_bytes: int = 0
    n_controls: int = 2
    axes_width: float = 0
    kept_bytes: int = 0


@dataclass(frozen=True)
class TrialSizes:
    """The trials of a study.

    Attributes
    ----------
    n : int
        All of them.
    n_left : int
        Those that are still to be evaluated.
    sizes : sequence of int
        Numbers of coordinates that are searched.
    largest : int
        The most coordinates that a basis has.
    n_spaces : int
        Layers, each as it is pooled and reduced.
    n_metrics : int
        What is scored.
    by_rows : bool
        Whether a metric needs predictions.
    keep_rows : bool
        Whether a regressor is fitted to rows, and not to moments.
    """

    n: int
    n_left: int
    sizes: Sequence[int]
    largest: int
    n_spaces: int
    n_metrics: int = 1
    by_rows: bool = False
    keep_rows: bool = False

    @property
    def mean_size(self) -> float:
        """The mean number of coordinates of a trial."""
        return sum(self.sizes) / len(self.sizes)

    @property
    def n_spaces_met(self) -> float:
        """How many spaces the trials that are left meet, where each is drawn by chance."""
        missed = (1 - 1 / self.n_spaces) ** self.n_left if self.n_spaces > 1 else float(not self.n_left)
        return self.n_spaces * (1 - missed)

    @property
    def n_sizes_met(self) -> float:
        """How many pairs of a space and a size all trials meet."""
        n_pairs = self.n_spaces * len(self.sizes)
        return n_pairs * (1 - (1 - 1 / n_pairs) ** self.n) if n_pairs > 1 else 1.0


@dataclass(frozen=True)
class Needs:
    """What a study takes.

    Attributes
    ----------
    members : sequence of MemberSizes
        Its data.
    networks : sequence of FeatureSizes
        Its features.
    trials : TrialSizes
        Its trials.
    scratch_bytes : float
        The most disk that activations may take for a while.
    pass_bytes : int
        The most memory that a pass takes for activations and the work on them.
    published : bool
        Whether the best trial is published already.
    """

    members: Sequence[MemberSizes]
    networks: Sequence[FeatureSizes]
    trials: TrialSizes
    scratch_bytes: float = 50e9
    pass_bytes: int = 9 << 29
    published: bool = False
    _held: Mapping[str, int] = field(default_factory=dict, repr=False)

    def memory(self) -> dict[str, int]:
        """Return the most memory that each stage takes, in bytes, the libraries included."""
        found = {
            "open": max(map(_reading, self.members)),
            "extract": max((self._pass_memory(item) for item in self.networks if item.widths), default=0),
            "reduce": max((self._reduction_memory(item) for item in self.networks if item.widths), default=0),
            "moments": self._moments_memory() + max(map(_reading, self.members)),
            "search": self._moments_memory() + self._search_memory(),
            "track": 0,
            "publish": self._moments_memory() + max(map(self._publish_memory, self.members)),
        }
        return {stage: LIBRARIES_BYTES + n_bytes for stage, n_bytes in found.items()}

    def scratch(self) -> dict[str, float]:
        """Return the disk that each stage takes for a while, in bytes."""
        moments = sum(_in_files(self._moments_arrays(member)) for member in self.members)
        return {
            "extract": max((min(self._on_disk(item), self.scratch_bytes) for item in self.networks), default=0.0),
            "moments": moments,
            "search": moments + sum(_in_files(self._searched_arrays(member)) for member in self.members),
            "publish": moments + max(_in_files(self._published_arrays(member)) for member in self.members),
        }

    def disk(self) -> dict[str, float]:
        """Return the disk that each stage keeps, in bytes: in the cache, in artifacts, in pages."""
        return {
            "extract": sum(map(self._projections_bytes, self.networks)),
            "moments": self._components_bytes(),
            "track": sum(map(self._tracked_bytes, self.members)),
            "publish": 0.0 if self.published else sum(map(self._published_bytes, self.members)),
        }

    def n_passes(self, item: FeatureSizes) -> int:
        """Count the passes over the images that a network takes, of layers that the scratch disk does not hold."""
        n_passes, used = 1, 0.0
        for width in item.widths:
            n_bytes = self._activations_bytes(item, width)
            if used + n_bytes > self.scratch_bytes and used:
                n_passes, used = n_passes + 1, 0.0
            used += n_bytes
        return n_passes if item.widths else 0

    @property
    def n_images(self) -> int:
        """Pictures of the largest member."""
        return max(member.n_images for member in self.members)

    def _activations_bytes(self, item: FeatureSizes, width: int) -> int:
        return self.n_images * width * item.item_bytes

    def _on_disk(self, item: FeatureSizes) -> float:
        """Return the bytes of activations that memory has no room for."""
        whole = sum(self._activations_bytes(item, width) for width in item.widths)
        return 0.0 if whole <= self.pass_bytes else float(whole)

    def _pass_memory(self, item: FeatureSizes) -> int:
        held = min(self.pass_bytes, sum(self._activations_bytes(item, width) for width in item.widths))
        return held + 3 * item.parameter_bytes

    def _reduction_memory(self, item: FeatureSizes) -> int:
        """Return the memory of the activations that are held, and of the work on the widest block."""
        work = pca_work_bytes(self.n_images, max(item.widths), item.item_bytes, self._n_leading)
        whole = 24 * self.n_images**2 if ALL in item.bases else 0
        held = min(self.pass_bytes, sum(self._activations_bytes(item, width) for width in item.widths))
        return max(held, min(self.pass_bytes, held + work)) + whole + 3 * item.parameter_bytes

    @property
    def _n_leading(self) -> int:
        return min(self.trials.largest, max(self.trials.sizes, default=1))

    def _moments_memory(self) -> int:
        """Return the bytes of moments that are held, of training and of validation rows, of all members."""
        return sum(
            min(self.trials.n_spaces, self._n_fitting(member)) * self._layer_bytes(member)
            or _held(self._moments_arrays(member))
            for member in self.members
        )

    def _moments_arrays(self, member: MemberSizes) -> list[int]:
        """Return the bytes of cross-products, of training and of validation rows, that exceed a member's memory."""
        return [] if self._n_fitting(member) else 2 * [8 * self.trials.largest * member.n_voxels]

    def _n_fitting(self, member: MemberSizes) -> int:
        """Return of how many layers the moments fit the memory that a member has for them."""
        return MOMENTS_BYTES // len(self.members) // self._layer_bytes(member)

    def _layer_bytes(self, member: MemberSizes) -> int:
        return 16 * self.trials.largest * (member.n_voxels + self.trials.largest)

    def _search_memory(self) -> int:
        """Return what trials take: what is found on all members is held until it is told, besides the work on one."""
        return sum(map(self._found_memory, self.members)) + max(map(self._trial_memory, self.members))

    def _found_memory(self, member: MemberSizes) -> int:
        """Return what is held of a trial, its coefficients and scores, and of responses that are needed whole."""
        return 8 * (self.trials.largest + 2) * member.n_voxels + _held(self._searched_arrays(member))

    def _trial_memory(self, member: MemberSizes) -> int:
        """Return what a regressor and its scores take: cross-products, coefficients and what is between."""
        solved = 8 * 3 * self.trials.largest * member.n_voxels
        rows = 0
        if self.trials.keep_rows:
            rows = member.n_voxels * (2 * member.item_bytes * member.n_train + 16 * member.n_scored)
        return solved + rows + _block_bytes(member.n_scored)

    def _searched_arrays(self, member: MemberSizes) -> list[int]:
        """Return the bytes of responses that trials need whole, by rows that are scored."""
        is_whole = self.trials.by_rows or self.trials.keep_rows
        return [member.n_scored * member.n_voxels * member.item_bytes] if is_whole else []

    def _publish_memory(self, member: MemberSizes) -> int:
        """Return what the confirmation holds: responses, what is kept of predictions, a regressor, and scores."""
        n_values = member.n_published * member.n_voxels
        made = 8 * n_values if self.trials.keep_rows else 8 * 3 * self.trials.largest * member.n_voxels
        fitted = 2 * member.item_bytes * member.n_development * member.n_voxels if self.trials.keep_rows else 0
        rows = _held(self._published_arrays(member)) + 2 * CHUNK_BYTES + _block_bytes(member.n_published)
        return max(rows + made, fitted + rows)

    def _published_arrays(self, member: MemberSizes) -> list[int]:
        """Return the bytes of responses, predictions and single repeats, which are held one beside another."""
        n_values = member.n_published * member.n_voxels
        repeats = n_values * member.n_repeats * member.item_bytes
        return [n_values * member.item_bytes, 4 * n_values, repeats]

    def _projections_bytes(self, item: FeatureSizes) -> float:
        """Return the bytes of what PCA, or another basis, needs of each block that is still to be computed."""
        n_dimensions = [min(width, kept_dimensions(self.n_images, width, self._n_leading)) for width in item.widths]
        found = sum(4 * self.n_images * n for n in n_dimensions) * (PCA in item.bases)
        whole = sum(min(4 * self.n_images * width, 8 * self.n_images**2) for width in item.widths)
        return float(found + whole * (ALL in item.bases))

    def _components_bytes(self) -> float:
        """Return the bytes of coordinates: at the largest size for the rows of each fold, and for all at the end."""
        n_sets = max(member.n_folds + (member.n_folds > 1) for member in self.members)
        each = 4 * self.n_images * self._n_leading
        widths = sum(len(item.widths) for item in self.networks)
        leading = 4 * self.n_images * self.trials.mean_size * self.trials.n_sizes_met
        return float(each * n_sets * widths + leading * len(self.members) * (self.trials.n_left > 0))

    def _tracked_bytes(self, member: MemberSizes) -> float:
        """Return the bytes of the artifacts of the trials that are left: scores, coefficients and records."""
        scores = 8 * member.n_voxels * self.trials.n_metrics
        fitted = 8 * member.n_voxels * (self.trials.mean_size + 1)
        if self.trials.keep_rows:
            fitted = max(fitted, member.item_bytes * member.n_train * member.n_voxels / 2)
        each = scores + fitted + TRIAL_BYTES * (1 + member.n_regions / 20)
        return self.trials.n_left * each + _SHARED_BYTES * (self.trials.n_left > 0)

    def _published_bytes(self, member: MemberSizes) -> float:
        """Return the bytes of a published model, of its axes in the cache, and of what the confirmation says."""
        sizes = self.trials.mean_size + self._n_leading
        axes = max((item.axes_width for item in self.networks), default=0) * 4 * sizes
        weights = max((item.kept_bytes for item in self.networks), default=0)
        fitted = 8 * member.n_voxels * (self.trials.mean_size + 1)
        n_rivals = max((item.n_controls for item in self.networks), default=0) + 1
        rows = 4 * member.n_confirmation * member.n_voxels
        scores = 8 * member.n_voxels * (4 + n_rivals) + 4 * N_RESAMPLES * (1 + member.n_regions) * (1 + n_rivals)
        return axes + weights + fitted + rows + scores + PAGES_BYTES


def kept_dimensions(n_images: int, width: int, n_components: int) -> int:
    """Return in how many dimensions the projections of a block are kept; see `pca.compress`."""
    if n_images <= pca.EXACT_IMAGES:
        return min(n_images, width)
    return min(width, pca.sketch_size(n_components))


def pca_work_bytes(n_images: int, width: int, item_bytes: int, n_components: int) -> int:
    """Return the memory of the work on a block beside its activations."""
    if n_images <= pca.EXACT_IMAGES:
        return 8 * (2 * n_images * min(width, 1 << 14) + 3 * n_images**2)
    size = pca.sketch_size(n_components)
    return max(pca.EXACT_IMAGES, 3 * size) * width * item_bytes + 12 * size * width


def pca_work(n_images: int, width: int, n_components: int) -> float:
    """Return how many multiplications and additions PCA of a block takes; see `pca.compress`."""
    if width <= kept_dimensions(n_images, width, n_components):
        return 2.0 * n_images * width**2
    if n_images <= pca.EXACT_IMAGES:
        return 2.0 * n_images**2 * width + 10.0 * n_images**3
    size = pca.sketch_size(n_components)
    return 6.0 * n_images * width * size + 2.0 * pca.EXACT_IMAGES * width * (pca.EXACT_IMAGES + size)


def moments_work(n_rows: int, n_components: float, n_voxels: int) -> float:
    """Return how many multiplications and additions the moments of rows take."""
    return 2.0 * n_rows * n_components * (n_components + n_voxels)


def _reading(member: MemberSizes) -> int:
    """Return what a block of responses takes that is read, normalised and looked at."""
    block = min(RESPONSES_BYTES, member.n_images * member.n_voxels * member.item_bytes)
    return 4 * block


def _held(arrays: Sequence[int]) -> int:
    """Return the memory of arrays of which large ones are mapped to files."""
    return sum(n_bytes for n_bytes in arrays if n_bytes < LARGE_BYTES)


def _in_files(arrays: Sequence[int]) -> float:
    return float(sum(arrays) - _held(arrays))


def _block_bytes(n_rows: int) -> int:
    return 4 * 8 * n_rows * n_together_of(n_rows)


def in_words(needs: Mapping[str, float]) -> str:
    """Name the stage that takes most.

    Examples
    --------
    >>> in_words({"open": 1.0, "publish": 2.0})
    'publish'
    """
    return max(needs, key=lambda stage: (needs[stage], -math.inf))
