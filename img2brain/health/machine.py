"""The machine: versions of what computes and keeps, and the devices."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from img2brain._arrays import devices
from img2brain.machine import memory_limit, n_cores

_PACKAGES = ("img2brain", "mlflow", "optuna", "torch")


def facts() -> dict[str, str]:
    """Return versions and devices."""
    versions = {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}
    cpu = f"{n_cores()} cores, {memory_limit() / 2**30:.1f} GiB"
    return versions | {"cpu": cpu} | devices()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
