"""The seconds of a core that each stage of a study takes, and the passes that it makes."""

from __future__ import annotations

from functools import cached_property, partial

from img2brain.machine import speeds
from img2brain.spec import ALL, GIVEN
from img2brain.study import needs, probes
from img2brain.study.looked import Looked

# What a core takes for what does not follow from sizes, measured where nothing else was at work.
_START_S, _TRIAL_S, _PUBLISH_S = 13.0, 0.06, 9.0
_NETWORKS_S = 5.0  # that all networks together are looked at


class Work:
    """What the work of a study takes.

    Parameters
    ----------
    looked : Looked
        The study.
    """

    def __init__(self, looked: Looked) -> None:
        self._spec, self._looked, self._needs = looked.spec, looked, looked.needs
        self._members = looked.needs.members

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of a core that each stage takes."""
        trials, speed, disk = self._needs.trials, speeds(), self._needs.disk()
        trial_s = self._trial_s() if trials.n_left else 0.0
        return {
            "open": self._open_s,
            "extract": sum(shown * seconds for shown, seconds in self.shown.values()),
            "reduce": sum(self._reduction_s(width, item) for item in self._needs.networks for width in item.widths),
            "moments": trials.n_spaces_met * self._moments_s,
            "search": trials.n_left * trial_s,
            "track": trials.n_left * _TRIAL_S * len(self._members) + disk["track"] / speed.digest,
            "publish": 0.0 if self._needs.published else self._publish_s(trial_s),
        }

    @property
    def shown(self) -> dict[str, tuple[int, float]]:
        """How many pictures pass each network, and the seconds of a core that each takes."""
        seconds = zip(self._needs.networks, self._image_s, strict=True)
        return {item.name: (self._looked.n_shown * self._needs.n_passes(item), each) for item, each in seconds}

    @cached_property
    def passes(self) -> dict[str, float]:
        """Passes over the pictures, and over the responses."""
        trials, needed = self._needs.trials, self._needs
        n_left = 0.0 if needed.published else 1.0
        n_rivals = max((item.n_controls for item in needed.networks), default=0)
        extracted = float(sum(map(needed.n_passes, needed.networks)))
        return {
            "open": 3.0,
            "extract": extracted,
            "moments": trials.n_spaces_met,
            "search": float(trials.by_rows or trials.keep_rows),
            "publish": n_left * (2.0 + 2.0 * n_rivals),
        }

    def read_bytes(self, stage: str) -> float:
        """Return the bytes of pictures and responses that a stage reads."""
        passes, dataset = self.passes, self._looked.first[0]
        if stage == "extract":
            return passes[stage] * self._looked.n_shown * probes.picture_bytes(dataset)
        responses = sum(item.n_images * item.n_voxels * item.item_bytes for item in self._members)
        pictures = self._looked.n_shown * probes.picture_bytes(dataset) if stage == "open" else 0.0
        return passes.get(stage, 0.0) * responses + pictures

    @property
    def _open_s(self) -> float:
        dataset = self._looked.first[0]
        digested = sum(item.n_images * item.n_voxels * item.item_bytes for item in self._members)
        alike_s = self._picture_s * self._looked.n_shown if probes.are_alike(dataset) else 0.0
        return _START_S + self.passes["open"] * self._rows_s + digested / speeds().digest + alike_s

    @property
    def _rows_s(self) -> float:
        """Return what it takes to read the development rows once."""
        return self._row_s * sum(item.n_development for item in self._members)

    @cached_property
    def _row_s(self) -> float:
        return probes.row_s(*self._looked.first)

    @cached_property
    def _picture_s(self) -> float:
        return probes.picture_s(self._looked.first[0])

    @property
    def _moments_s(self) -> float:
        """Return what the moments of a space take."""
        largest = self._needs.trials.largest
        sums = sum(needs.moments_work(item.n_development, largest, item.n_voxels) for item in self._members)
        return self._rows_s + sums / speeds().flops32

    def _reduction_s(self, width: int, item: needs.FeatureSizes) -> float:
        trials, speed, n = self._needs.trials, speeds(), self._needs.n_images
        leading = max(trials.sizes, default=1)
        exact = n <= 1024 and item.item_bytes > 2
        found = needs.pca_work(n, width, leading) / (speed.flops64 if exact else speed.flops32)
        whole = 2.0 * n**2 * width + 12.0 * n**3 if ALL in item.bases else 0.0
        kept = needs.kept_dimensions(n, width, leading)
        fitted = 2.0 * n * kept * (min(n, kept) + leading) + 10.0 * min(n, kept) ** 3
        return found + (whole + 2 * fitted) / speed.flops64

    def _publish_s(self, trial_s: float) -> float:
        """Return the seconds of the last stage: passes of axes and controls, fits, resamples, pages."""
        n_controls = max((item.n_controls for item in self._needs.networks), default=0)
        n_layers = max((item.n_blocks for item in self._needs.networks), default=1)
        n_others = n_controls + (n_layers if n_layers > 1 else 0)
        passes = self._looked.n_shown * ((n_controls > 2) + 1) * max(self._image_s, default=0.0)
        pixels = self._looked.n_shown * self._picture_s * (n_controls > 1)
        fits = (
            (1 + n_others) * self._moments_s
            + 2 * (n_controls - 1) * self._moments_s
            + (7 * n_controls + n_layers) * trial_s
        )
        resampled = (1 + n_controls + (n_layers > 1)) * sum(map(partial(probes.resample_s, self._spec), self._members))
        return _PUBLISH_S * len(self._members) + passes + pixels + fits + resampled

    def _trial_s(self) -> float:
        """Time a small fit of each regressor, with its scores, and return the mean of what a trial takes."""
        each = [
            probes.fit_s(self._spec, item.name, self._needs.trials, self._members[0]) for item in self._spec.regressors
        ]
        share = sum(item.n_voxels for item in self._members) / self._members[0].n_voxels
        return share * sum(each) / len(each)

    @cached_property
    def _image_s(self) -> list[float]:
        """Time some pictures of each network that has a pass to make; of more than there is time for, guess."""
        found: list[float] = []
        for item in self._spec.backbones:
            known = [value for value in found if value]
            if item.name == GIVEN:
                found.append(0.0)
            elif sum(known) and sum(known) * probes.SOME * 4 > _NETWORKS_S:
                found.append(sum(known) / len(known))
            else:
                found.append(probes.image_s(item, self._spec, self._looked.first[0], self._looked.banks[len(found)]))
        return found
