"""What is known of a model, as plain data: read off its records, whichever of them it has."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.records.confirmation import CONFIRMATION
from img2brain.spec import NO_POOLING, PCA

_PROVENANCE = ("species", "area", "licence", "url", "citation")
_LIBRARIES = ("img2brain", "torch", "torchvision", "scikit-learn", "numpy", "pillow")
_BINS = 24


def versions() -> dict[str, str]:
    """Return the versions of what computes here."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def histograms(accuracy: NDArray[Any], controls: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Count voxels by score, of a model and of its controls in the same bins; what is beyond an end is in its bin."""
    named = {"model": accuracy, **controls}
    scores = {name: values[np.isfinite(values)] for name, values in named.items()}
    pooled = np.concatenate(list(scores.values()))
    if not len(pooled):
        return {}
    low, high = (float(value) for value in np.percentile(pooled, [0.5, 99.5]))
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    counts = {name: np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] for name, values in scores.items()}
    return {"edges": edges.tolist(), "counts": {name: found.tolist() for name, found in counts.items()}}


def metadata(model: Any) -> dict[str, Any]:
    """Gather what is known of an encoding model; see `EncodingModel.metadata`."""
    about, spec = model.about, model.spec
    trial, confirmation = about.get("trial") or {}, about.get("confirmation") or {}
    parts, first = confirmation.get("parts") or {}, confirmation.get("first") or CONFIRMATION
    part = parts.get(first)
    return {
        "format": model.format,
        "versions": dict(about.get("versions", {})),
        "dataset": {
            "name": about.get("dataset", ""),
            "digest": about.get("dataset_digest", ""),
            "subject": about.get("subject", ""),
            "unit": about.get("unit", ""),
            **_provenance(trial),
        },
        "n_voxels": about.get("n_voxels"),
        "regions": {name: len(voxels) for name, voxels in model.regions.items()},
        "network": {
            "name": spec.backbone,
            "library": str(model.network.get("backbone", "")).rpartition(":")[0],
            "weights": model.network.get("weights", spec.weights),
            "weights_digest": model.network.get("weights_digest", spec.weights_digest),
            "trained": model.network.get("trained", ""),
            "digest": (trial.get("network") or {}).get("digest", ""),
            "layer": spec.layer,
            **({"pooling": spec.pooling} if spec.pooling != NO_POOLING else {}),
            "precision": model.precision,
        },
        "n_components": spec.n_components,
        **({"reduction": spec.reduction} if spec.reduction != PCA else {}),
        "regressor": {"name": spec.regressor, "parameters": dict(spec.parameters)},
        "rows": {"split": about.get("split_digest", ""), "n_fitted": about.get("n_images"), **_rows(trial)},
        "objective": {
            "name": about.get("objective", ""),
            "label": confirmation.get("label", about.get("objective", "")),
            "summary": confirmation.get("summary", ""),
        },
        "scores": _scores(about.get("scores", {}), part),
        "controls": dict(part["whole"].get("controls", {})) if part else {},
        "ceiling": _ceiling(part),
        "looks": part.get("looks") if part else None,
        "parts": _parts(parts, confirmation.get("drops") or {}) if list(parts) != [CONFIRMATION] else {},
        "study": {"name": trial.get("study", ""), "trial": trial.get("number")},
        "code": dict(trial.get("code") or {}),
        "plugins": model.plugins,
    }


def _provenance(trial: Mapping[str, Any]) -> dict[str, str]:
    told = (trial.get("dataset") or {}).get("provenance") or {}
    return {name: told.get(name, "") for name in _PROVENANCE}


def _rows(trial: Mapping[str, Any]) -> dict[str, Any]:
    rows = trial.get("rows") or {}
    return {name: rows.get(name) for name in ("text", "folds", "n_train", "n_validation", "n_confirmation")}


def _scores(told: Mapping[str, Any], part: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give the score of the search, and those of the rows that it never saw, with their intervals."""
    found: dict[str, Any] = {"validation": told.get("validation", told.get("validation_median_r"))}
    if part is None:
        alone = told.get("confirmation")  # what models of older formats tell: no interval, no regions
        confirmed = None if alone is None else {"estimate": alone, "low": None, "high": None}
        return found | {"confirmation": confirmed, "n_images": None, "n_significant": None, "regions": {}}
    regions = part.get("regions", {})
    return found | {
        "confirmation": dict(part["whole"]["score"]),
        "n_images": part.get("n_units") or part.get("n_images"),
        "n_significant": part["whole"].get("n_significant"),
        "regions": {name: {"n_voxels": item["n_voxels"], **item["score"]} for name, item in regions.items()},
    }


def _parts(parts: Mapping[str, Any], drops: Mapping[str, Any]) -> dict[str, Any]:
    """Give what each named part of the confirmation rows says, and how far the score drops from the first."""
    return {
        name: {
            "n_images": part.get("n_units") or part.get("n_images"),
            "looks": part.get("looks"),
            **part["whole"]["score"],
            "drop": drops.get(name),
        }
        for name, part in parts.items()
    }


def _ceiling(part: Mapping[str, Any] | None) -> dict[str, Any] | None:
    found = part["whole"].get("ceiling") if part else None
    return {"origin": part["ceiling"], **found} if part and found else None
