"""The files of a saved model, read without trust: digests first, then what they say, then the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import numpy as safe_numpy

from img2brain import digest, plain, sealed
from img2brain.backbones._source import Source
from img2brain.catalog import LIBRARIES, REGRESSORS
from img2brain.errors import ModelError, SpecError
from img2brain.regressors.base import Regressor
from img2brain.spec import TrialSpec

FORMAT = 6
# A model of format 2 has no probe and names no plug-ins, one of 3 does not say how images look. Before format 5 the
# digests are in model.json, but for its own. Before format 6 there are no regions and no golden example, but a probe.
_READ = (2, 3, 4, 5, FORMAT)
_SEALED_SINCE = 5
DESCRIPTION = "model.json"
NETWORK, PCA, REGRESSOR, REGIONS = (f"{name}.safetensors" for name in ("network", "pca", "regressor", "regions"))


def read_description(folder: Path) -> dict[str, Any]:
    """Read what a model says of itself, after a check of every file.

    Raises
    ------
    ModelError
        If a file is absent, changed, or of another format.
    """
    if sealed.is_sealed(folder):
        sealed.check(folder)
    try:
        described: dict[str, Any] = plain.of_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if described.get("format") not in _READ:
            raise ModelError(f"{folder}: the format of a model must be {FORMAT}. Got {described.get('format')!r}.")
        changed = [] if sealed.is_sealed(folder) else _changed_before_seals(folder, described)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{folder} holds no whole model: {error}.") from None
    if changed:
        raise ModelError(f"{folder}: {changed[0]} is not the file that the model was saved with.")
    return described


def regressor_kind(described: Mapping[str, Any], kept: Path | None) -> Any:
    """Find the regressor's class, by its code where it is one of others; a linear one predicts without that."""
    plugin = described.get("plugins", {}).get("regressor")
    if plugin is None:
        return REGRESSORS[described["spec"]["regressor"]]
    try:
        return REGRESSORS.exactly(plugin["name"], plugin["digest"], kept)
    except SpecError:
        if not described.get("linear"):
            raise
        return None


def restored_regressor(kind: Any, spec: TrialSpec, arrays: Mapping[str, NDArray[Any]]) -> Regressor:
    """Make the fitted regressor of its arrays."""
    if kind is None:
        linear = {name: arrays[name] for name in ("coef_", "intercept_")}
        return cast(Regressor, REGRESSORS["linear"].from_arrays({}, linear))
    return cast(Regressor, kind.from_arrays(spec.parameters, arrays))


def source_of(described: Mapping[str, Any], kept: Path | None) -> Source | None:
    """Find the network's library where it is one of others: by its code, else by its name.

    Whether another code computes the same is seen when the network is rebuilt.
    """
    plugin = described.get("plugins", {}).get("library")
    if plugin is None:
        return None
    name = str(plugin["name"])
    try:
        library = LIBRARIES.exactly(name, plugin["digest"], kept)
    except SpecError:
        if name not in LIBRARIES.names:
            raise
        library = LIBRARIES[name]
    return Source(library, name, str(described["network"]["backbone"]).rpartition(":")[2], dict(plugin))


def write_regions(folder: Path, regions: Mapping[str, NDArray[np.intp]]) -> list[str]:
    """Write the voxels of regions, and return their names in order."""
    arrays = {str(place): voxels.astype(np.int64) for place, voxels in enumerate(regions.values())}
    safe_numpy.save_file(arrays, folder / REGIONS)
    return list(regions)


def read_regions(folder: Path, described: Mapping[str, Any]) -> dict[str, NDArray[np.intp]]:
    """Read the voxels of regions; none of a model before format 6. A `ValueError` tells of voxels that are none."""
    names, n_voxels = described.get("regions", []), described["about"].get("n_voxels", 0)
    arrays = safe_numpy.load_file(folder / REGIONS) if names else {}
    found = {str(name): arrays[str(place)] for place, name in enumerate(names)}
    for name, voxels in found.items():
        if voxels.ndim != 1 or voxels.dtype.kind != "i" or not ((voxels >= 0) & (voxels < n_voxels)).all():
            raise ValueError(f"the region {name!r} must hold voxels of 0..{n_voxels - 1}")
    return {name: voxels.astype(np.intp) for name, voxels in found.items()}


def _changed_before_seals(folder: Path, described: Mapping[str, Any]) -> list[str]:
    """Name the files that are not what a model of an older format says."""
    if described["format"] >= _SEALED_SINCE:
        raise ModelError(f"{folder} holds no whole model: {sealed.SEAL} is not there.")
    files = (NETWORK, PCA, REGRESSOR)
    return [name for name in files if digest.of_file(folder / name) != described["files"].get(name)]
