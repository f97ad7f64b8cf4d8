"""img2brain: experiment-tracked benchmarking of visual encoding models.

Importing it loads none of the heavy libraries; each name below loads what it needs when it is first used.

Examples
--------
>>> import img2brain
>>> "load_model" in dir(img2brain)
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from img2brain import errors as errors

if TYPE_CHECKING:
    from img2brain import leaderboard as leaderboard
    from img2brain.backbones.base import Library as Library
    from img2brain.curation import describe_model as describe_model
    from img2brain.curation import model_history as model_history
    from img2brain.curation import rollback_model as rollback_model
    from img2brain.curation import tag_model as tag_model
    from img2brain.data_report.report import report_data as report_data
    from img2brain.datasets._convert import convert_dataset as convert_dataset
    from img2brain.datasets._layouts import check as check_dataset  # noqa: F401
    from img2brain.datasets._layouts import open_dataset as open_dataset
    from img2brain.datasets._sample import write_sample as write_sample
    from img2brain.datasets.base import Dataset as Dataset
    from img2brain.datasets.folder import FolderDataset as FolderDataset
    from img2brain.fetching.fetch import fetch_dataset as fetch_dataset
    from img2brain.home import Home as Home
    from img2brain.leaderboard.bundles.export import export_bundle as export_bundle
    from img2brain.leaderboard.bundles.imported import forget_bundle as forget_bundle
    from img2brain.leaderboard.bundles.imported import import_bundle as import_bundle
    from img2brain.leaderboard.bundles.imported import imported_bundles as imported_bundles
    from img2brain.leaderboard.bundles.submit import submit_bundle as submit_bundle
    from img2brain.metrics.base import Metric as Metric
    from img2brain.model import EncodingModel as EncodingModel
    from img2brain.moving import export_model as export_model
    from img2brain.moving import import_model as import_model
    from img2brain.moving import push_model as push_model
    from img2brain.records.confirmation import ConfirmationRecord as ConfirmationRecord
    from img2brain.records.study import StudyRecord as StudyRecord
    from img2brain.records.trial import TrialRecord as TrialRecord
    from img2brain.registered import crown_model as crown_model
    from img2brain.registered import load_model as load_model
    from img2brain.registered import load_plugin as load_plugin
    from img2brain.registered import predict_to_file as predict_to_file
    from img2brain.regressors.base import MomentsRegressor as MomentsRegressor
    from img2brain.regressors.base import Regressor as Regressor
    from img2brain.serving import serve_model as serve_model
    from img2brain.spec import StudySpec as StudySpec
    from img2brain.spec import load_study as load_study
    from img2brain.study.export import export_features as export_features
    from img2brain.study.runner import run_study as run_study
    from img2brain.verify import verify_bundle as verify_bundle

_PLACES = {
    "ConfirmationRecord": "records.confirmation:ConfirmationRecord",
    "Dataset": "datasets.base:Dataset",
    "EncodingModel": "model:EncodingModel",
    "FolderDataset": "datasets.folder:FolderDataset",
    "Home": "home:Home",
    "Library": "backbones.base:Library",
    "Metric": "metrics.base:Metric",
    "MomentsRegressor": "regressors.base:MomentsRegressor",
    "Regressor": "regressors.base:Regressor",
    "StudyRecord": "records.study:StudyRecord",
    "StudySpec": "spec:StudySpec",
    "TrialRecord": "records.trial:TrialRecord",
    "check_dataset": "datasets._layouts:check",
    "convert_dataset": "datasets._convert:convert_dataset",
    "crown_model": "registered:crown_model",
    "describe_model": "curation:describe_model",
    "export_bundle": "leaderboard.bundles.export:export_bundle",
    "export_features": "study.export:export_features",
    "export_model": "moving:export_model",
    "fetch_dataset": "fetching.fetch:fetch_dataset",
    "forget_bundle": "leaderboard.bundles.imported:forget_bundle",
    "import_bundle": "leaderboard.bundles.imported:import_bundle",
    "import_model": "moving:import_model",
    "imported_bundles": "leaderboard.bundles.imported:imported_bundles",
    "leaderboard": "leaderboard",
    "load_model": "registered:load_model",
    "load_plugin": "registered:load_plugin",
    "load_study": "spec:load_study",
    "model_history": "curation:model_history",
    "open_dataset": "datasets._layouts:open_dataset",
    "push_model": "moving:push_model",
    "rollback_model": "curation:rollback_model",
    "predict_to_file": "registered:predict_to_file",
    "report_data": "data_report.report:report_data",
    "run_study": "study.runner:run_study",
    "serve_model": "serving:serve_model",
    "submit_bundle": "leaderboard.bundles.submit:submit_bundle",
    "tag_model": "curation:tag_model",
    "verify_bundle": "verify:verify_bundle",
    "write_sample": "datasets._sample:write_sample",
}

__all__ = ["errors", *_PLACES]  # noqa: PLE0604 - plain names


def __getattr__(name: str) -> Any:
    """Load a public name from its place."""
    if name not in _PLACES:
        raise AttributeError(f"module 'img2brain' has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    found = importlib.import_module(f"img2brain.{module}")
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    """Name what is public."""
    return sorted(__all__)
