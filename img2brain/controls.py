"""Controls: what a published model has to beat, on the same images and with the same pipeline.

The *untrained twin* is the same network with random weights, at the same layer. The *pixels* are mean colours on a
coarse grid. *Shuffled* is the model itself, fitted to responses that were shuffled against the images. A control whose
features differ chooses its own alpha on the validation rows, so that it is not held back by that of the model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from img2brain.backbones import pixels
from img2brain.catalog import REGRESSORS
from img2brain.datasets.base import Development, Split
from img2brain.errors import FeatureError, FitError, StoreError
from img2brain.evaluate import Evaluator, bank_key
from img2brain.features.features import Features
from img2brain.metrics.base import Metric
from img2brain.predictions import Predictions
from img2brain.refit import Refit
from img2brain.spec import GIVEN, NO_POOLING, BackboneSpec, FeatureSpace, Layers, TrialSpec

log = logging.getLogger(__name__)

F64 = NDArray[np.float64]
MakeBank = Callable[[BackboneSpec], Features]

UNTRAINED, PIXELS, SHUFFLED = "untrained", "pixels", "shuffled"
NAMES = (UNTRAINED, PIXELS, SHUFFLED)
_TWIN_WEIGHTS = "random:0"
_SEED = 0
_ALPHAS = tuple(10.0**power for power in range(-3, 4))


def _item(layers: tuple[str, ...]) -> Layers:
    return layers[0] if len(layers) == 1 else layers


@dataclass(frozen=True, eq=False)
class Control:
    """What a control predicts of the confirmation rows.

    Attributes
    ----------
    name : {"untrained", "pixels", "shuffled"}
        Which control.
    spec : TrialSpec
        Its pipeline.
    predictions : Predictions or ndarray (n_confirmation, n_voxels)
    """

    name: str
    spec: TrialSpec
    predictions: Predictions | F64


class Controls:
    """Fits the controls of trials.

    Parameters
    ----------
    development : Development
        Responses of the development rows; controls see no others.
    split : Split
        The rows.
    n_components : int
        The size that the components are stored at.
    make_bank : callable
        From a network to its features of the same images.
    metrics : mapping of str to Metric
        What is scored, the objective first: it chooses a control's alpha.
    device : str
        Where linear regressors are fitted.
    """

    def __init__(
        self,
        development: Development,
        split: Split,
        n_components: int,
        make_bank: MakeBank,
        metrics: Mapping[str, Metric],
        device: str = "cpu",
    ) -> None:
        self._development = development
        self._split = split
        self._n_components = n_components
        self._make_bank = make_bank
        self._metrics = dict(list(metrics.items())[:1])
        self._device = device
        self._refit = Refit(development, split, n_components, device)

    def of(self, spec: TrialSpec, bank: Features) -> Iterator[Control]:
        """Fit the controls that a trial can have; an untrained network has no twin, given features have no images.

        Notes
        -----
        The first time, a twin and the pixels cost a pass over the images each; afterwards they come from the cache.
        """
        if spec.backbone == GIVEN:
            yield self._shuffled(spec, bank)
            return
        if bank.facts["trained"] != "untrained":
            twin = BackboneSpec(
                name=spec.backbone,
                weights=_TWIN_WEIGHTS,
                layers=(_item(bank.together(spec.layer)),),
                preprocessing=bank.spec.preprocessing,
                pooling=(spec.pooling,),
                degrees=bank.spec.degrees,
            )
            yield from self._other(UNTRAINED, spec, bank, twin)
        if spec.backbone != pixels.NAME:
            grid = BackboneSpec(name=pixels.NAME, weights=pixels.WEIGHTS, layers=(pixels.LAYER,), pooling=(NO_POOLING,))
            yield from self._other(PIXELS, spec, bank, grid)
        yield self._shuffled(spec, bank)

    def _shuffled(self, spec: TrialSpec, bank: Features) -> Control:
        return Control(SHUFFLED, spec, self._refit(spec, bank, shuffle=_SEED)[1])

    def _other(self, name: str, spec: TrialSpec, bank: Features, network: BackboneSpec) -> Iterator[Control]:
        """Fit the same pipeline to the features of another network; say why where that cannot be done."""
        try:
            other = self._make_bank(network)
            chosen = self._chosen(self._moved(spec, other), other, spec, bank)
            yield Control(name, chosen, self._refit(chosen, other)[1])
        except (FitError, FeatureError, StoreError) as error:
            log.warning("no control %r of %s: %s", name, spec.label, error)

    def _moved(self, spec: TrialSpec, bank: Features) -> TrialSpec:
        """Return the trial on another network, with no more components than that spans."""
        space = FeatureSpace(bank.layers[0], bank.poolings(bank.layers[0])[0], spec.basis)
        spans = min(
            len(bank.components(space, rows, self._n_components).variances)
            for rows in (self._split.development, *(fold.train for fold in self._split.folds))
        )
        return spec.model_copy(
            update={
                "backbone": bank.spec.name,
                "weights": bank.facts["label"],
                "weights_digest": bank.facts["weights_digest"],
                "preprocessing": bank.spec.preprocessing,
                "layer": space.layer,
                "pooling": space.pooling,
                "placement": bank.placement,
                "n_components": min(spec.n_components, spans),
            }
        )

    def _chosen(self, moved: TrialSpec, other: Features, spec: TrialSpec, bank: Features) -> TrialSpec:
        """Choose the control's alpha on the validation rows, around the model's own in relative terms."""
        domain = REGRESSORS[spec.regressor].search.get("alpha")
        if domain is None or not domain.relative:
            return moved
        banks = {bank_key(moved): other, bank_key(spec): bank}
        evaluator = Evaluator(self._development, self._split, banks, self._n_components, self._metrics, self._device)
        alpha = spec.parameters["alpha"]
        assert isinstance(alpha, int | float), "alpha is a number"
        unit = alpha / evaluator.alpha_scale(spec) * evaluator.alpha_scale(moved)
        tried = [
            moved.model_copy(update={"parameters": {**moved.parameters, "alpha": unit * step}}) for step in _ALPHAS
        ]
        scores = [np.nan_to_num(evaluator.evaluate(item).score, nan=-np.inf) for item in tried]
        return tried[int(np.argmax(scores))]
