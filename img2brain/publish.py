"""From the best trial to a registered model: refitted, scored once on the confirmation rows, crowned if it is best."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from img2brain.confirm import BestLayers, Confirmation
from img2brain.controls import Controls, MakeBank
from img2brain.datasets._images import find_images
from img2brain.datasets.base import Dataset, Split
from img2brain.errors import DataError
from img2brain.features.features import Features
from img2brain.home import Home
from img2brain.model import EncodingModel
from img2brain.refit import Refit
from img2brain.regressors.base import Regressor
from img2brain.spec import TrialSpec
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.registry import CONFIRMATION, Registered, Registry
from img2brain.tracking.tracker import REGISTERED, Tracker


@dataclass(frozen=True)
class Published:
    """What became of the best trial.

    Attributes
    ----------
    registered : Registered
        The registered version.
    is_champion : bool
        Whether it has the alias `champion`.
    confirmation_median_r : float
        NaN where there are no confirmation rows.
    reason : str
        Why it is, or is not, the champion.
    """

    registered: Registered
    is_champion: bool
    confirmation_median_r: float
    reason: str


class Publisher:
    """Publishes trials of one split of one dataset.

    Parameters
    ----------
    dataset : Dataset
        The whole dataset: this is the one place that reads the confirmation responses.
    split : Split
        Its rows.
    n_components : int
        The size that the components are stored at.
    make_bank : callable
        From a network to its features of the same images, for the controls.
    """

    def __init__(self, dataset: Dataset, split: Split, n_components: int, make_bank: MakeBank) -> None:
        self._dataset = dataset
        self._split = split
        self._n_components = n_components
        development = dataset.development(split)
        self.refit = Refit(development, split, n_components)
        self.controls = Controls(development, split, n_components, make_bank)

    def publish(
        self,
        spec: TrialSpec,
        validation_r: float,
        run_id: str,
        bank: Features,
        tracker: Tracker,
        best_layers: Callable[[], BestLayers | None] = lambda: None,
    ) -> Published:
        """Refit a trial, score it once on the confirmation rows, register it, and crown it where it beats the champion.

        Parameters
        ----------
        spec : TrialSpec
            The trial.
        validation_r : float
            Its median r on the validation rows.
        run_id : str
            Its run.
        bank : Features
            Features of its backbone.
        tracker : Tracker
            Where it is tracked.
        best_layers : callable, optional
            Chooses the best layer of each voxel, asked for where there are confirmation rows.

        Returns
        -------
        Published
        """
        registry = Registry(tracker.store)
        present = next((item for item in registry.versions(self._dataset.name) if item.run_id == run_id), None)
        registered = present or self._register(spec, validation_r, run_id, bank, tracker, registry, best_layers)
        with tracker.store.lock:
            is_champion, reason = self._crown(registered, registry)
        tracker.tag(run_id, {REGISTERED: f"{registered.name} v{registered.version}"})
        return Published(registered, is_champion, registered.score("confirmation"), reason)

    def model(self, spec: TrialSpec, regressor: Regressor, bank: Features, scores: dict[str, float]) -> EncodingModel:
        """Assemble the model that maps images to responses."""
        network, tensors = bank.export(spec.layer)
        axes = bank.axes(spec.layer, self._split.development, self._n_components).leading(spec.n_components)
        about = {
            "dataset": self._dataset.name,
            "dataset_digest": self._dataset.digest,
            "split_digest": self._split.digest,
            "unit": self._dataset.unit,
            "subject": self._dataset.subject,
            "n_voxels": self._dataset.n_voxels,
            "n_images": len(self._split.development),
            "scores": {name: None if math.isnan(value) else value for name, value in scores.items()},
        }
        return EncodingModel(spec, network, tensors, axes, regressor, about, bank.precision)

    def _register(
        self,
        spec: TrialSpec,
        validation_r: float,
        run_id: str,
        bank: Features,
        tracker: Tracker,
        registry: Registry,
        best_layers: Callable[[], BestLayers | None],
    ) -> Registered:
        regressor, predictions = self.refit(spec, bank)
        scores = {"validation_median_r": validation_r, "confirmation_median_r": math.nan}
        tags = {
            "img2brain.rows": tracker.study.rows_digest,
            "trained": str(bank.facts["trained"]),
            "trial": spec.label,
        }
        if len(predictions):
            confirmation = Confirmation(self._dataset, self._split)
            report = confirmation.report(predictions, validation_r, self.controls.of(spec, bank), best_layers())
            scores["confirmation_median_r"] = report.summary["median_r"]
            before = registry.confirmations(confirmation.digest, run_id)
            tracker.log_confirmation(run_id, report, before + 1)
            tags[CONFIRMATION] = confirmation.digest
        tags |= {name: repr(value) for name, value in scores.items()}
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            folder.mkdir()
            model = self.model(spec, regressor, bank, scores)
            model.save(folder)
            n_features = len(model.axes.axes) if model.takes_features else None
            return registry.register(
                self._dataset.name, folder, run_id, self._dataset.n_voxels, tags, n_features=n_features
            )

    def _crown(self, registered: Registered, registry: Registry) -> tuple[bool, str]:
        """Compare with the present champion, on the same rows or not at all."""
        champion = registry.champion(registered.name)
        if champion is None or champion.version == registered.version:
            if champion is None:
                registry.crown(registered)
            return True, "the first champion" if champion is None else "the champion already"
        if champion.rows_digest != registered.rows_digest:
            return False, f"version {champion.version}, the champion, was scored on other rows or data: not compared"
        part = "validation" if math.isnan(registered.score("confirmation")) else "confirmation"
        ours, theirs = registered.score(part), champion.score(part)
        said = f"{part} median r {ours:.4f} against {theirs:.4f} of version {champion.version}"
        if ours > theirs:
            registry.crown(registered)
            return True, f"beats the champion: {said}"
        return False, f"does not beat the champion: {said}"


def load_model(reference: str, home: Home | Path | str = "mlruns") -> EncodingModel:
    """Load a registered model.

    Parameters
    ----------
    reference : str
        ``"NAME@champion"``, ``"NAME/VERSION"`` or ``"NAME"`` (its champion), or the folder of a saved model.
    home : Home, Path or str
        The home folder.

    Returns
    -------
    EncodingModel
        Predicts responses to images.

    Raises
    ------
    ModelError
        If there is no such model, or its files were changed.
    """
    if (Path(reference) / "model.json").is_file():
        return EncodingModel.load(Path(reference))
    registry = Registry(TrackingStore(Home.of(home)))
    with registry.files(registry.find(reference)) as folder:
        return EncodingModel.load(folder)


def predict_to_file(
    model: EncodingModel, images: Sequence[Path], out: Path, *, device: str = "auto"
) -> tuple[int, int]:
    """Predict the responses to images and write them as ``.npy``.

    Parameters
    ----------
    model : EncodingModel
        See `load_model`.
    images : sequence of Path
        Files, or folders that stand for their images in the order of their names; for a model of features that came
        with the data, ``.npy`` files of them.
    out : Path
        The file to write; it is there whole or not at all.
    device : str
        Where the network runs.

    Returns
    -------
    n_images, n_voxels : int

    Raises
    ------
    DataError
        If a file is absent or does not decode, or a folder holds no image.
    """
    if out.suffix != ".npy":
        raise DataError(f"The file to write must end in .npy. Got {out}.")
    if not out.parent.is_dir():
        raise DataError(f"The folder of the file to write must exist. Got {out}.")
    if model.takes_features:
        predictions = np.concatenate([model.predict(path) for path in images])
    else:
        paths = [path for image in images for path in (find_images(image) if image.is_dir() else [image])]
        predictions = model.predict(paths, device=device)
    unfinished = out.with_name(f".{out.name}.unfinished.npy")
    try:
        np.save(unfinished, predictions)
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
    return len(predictions), predictions.shape[1]
