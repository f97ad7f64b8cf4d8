"""The published scores, in full precision where that is what was published, and as records of trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from img2brain import digest
from img2brain.records import CodeRecord, DatasetRecord, MetricRecord, NetworkRecord, RowsRecord, TrialRecord
from img2brain.spec import TrialSpec

DATASET = "img2brain-2023"
STUDY = "predecessor"
CAVEAT = "untrained networks; the rows that chose the layer and the regressor also reported the score"
N_VOXELS, N_TRAIN, N_VALIDATION = 10_000, 7086, 1771
_DATA = digest.of_value([DATASET, "published responses"])
_ROWS = digest.of_value([DATASET, "numpy.random.seed(224), first 7086 of 8857"])
_OBJECTIVE = "pearson"


class Entry(NamedTuple):
    """One published score."""

    backbone: str
    layer: str
    n_components: int
    regressor: str
    alpha: float | None
    median_r: float


# fmt: off
ENTRIES = (
    *(Entry("alexnet", layer, 30, "linear", None, r) for layer, r in (
        ("features.2", 0.18547), ("features.5", 0.19519), ("features.7", 0.19444), ("features.9", 0.19611),
        ("features.12", 0.20502), ("classifier.2", 0.20274), ("classifier.5", 0.20259), ("classifier.6", 0.20353))),
    *(Entry("vgg16", layer, 30, "linear", None, r) for layer, r in (
        ("features.20", 0.17082), ("features.30", 0.19549), ("classifier.5", 0.19841), ("classifier.6", 0.19184))),
    *(Entry("resnet50", layer, 30, "linear", None, r) for layer, r in (
        ("layer1.1.conv1", 0.17071), ("layer2.3.conv2", 0.13514), ("layer3.5.conv3", 0.12733),
        ("layer4.2.conv3", 0.12082), ("avgpool", 0.15794))),
    *(Entry("inception_v3", layer, 30, "linear", None, r) for layer, r in (
        ("Mixed_5c.branch1x1.conv", 0.15007), ("Conv2d_4a_3x3.conv", 0.14210), ("Mixed_6b.branch1x1.conv", 0.14852),
        ("Mixed_6c.branch7x7_2.conv", 0.15762), ("Mixed_7c.branch_pool.conv", 0.14015), ("avgpool", 0.11858))),
    Entry("alexnet", "features.12", 100, "multi_task_lasso", 0.01, 0.2417),
    Entry("alexnet", "features.12", 100, "multi_task_elastic_net", 0.001, 0.2415),
    Entry("alexnet", "features.12", 100, "ridge", 1.0, 0.2412),
    Entry("alexnet", "features.12", 100, "linear", None, 0.2402),
    Entry("alexnet", "features.12", 100, "k_neighbors", None, 0.1021),
    Entry("alexnet", "features.12", 100, "decision_tree", None, 0.0382),
)
# fmt: on


def record_of(number: int, entry: Entry, summary: Mapping[str, float], *notes: str) -> TrialRecord:
    """Return a published score as the record of a trial.

    Parameters
    ----------
    number : int
        Its place among `ENTRIES`.
    entry : Entry
        As it was published.
    summary : mapping of str to float
        Over all voxels; see `summary_of`.
    *notes : str
        What has to be known of it, beside the caveat that all of them share.
    """
    spec = TrialSpec(
        backbone=entry.backbone,
        weights="random",
        weights_digest="unknown",
        preprocessing="resize224",
        layer=entry.layer,
        n_components=entry.n_components,
        regressor=entry.regressor,
        parameters={} if entry.alpha is None else {"alpha": entry.alpha},
    )
    rows = RowsRecord(
        digest=_ROWS, split=_ROWS, text=DATASET, n_train=N_TRAIN, n_validation=N_VALIDATION, n_confirmation=0
    )
    return TrialRecord(
        study=STUDY,
        number=number,
        spec=spec,
        dataset=DatasetRecord(name=DATASET, digest=_DATA, n_images=N_TRAIN + N_VALIDATION, n_voxels=N_VOXELS),
        rows=rows,
        network=NetworkRecord(digest="", trained="untrained"),
        code=CodeRecord(version="Img2brain 1.0.0", digest=""),
        objective=_OBJECTIVE,
        metrics={_OBJECTIVE: MetricRecord(label="Pearson r", whole={**summary, "published": entry.median_r})},
        note="; ".join(filter(None, [CAVEAT, *notes])),
    )
