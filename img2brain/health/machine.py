"""The machine: versions of what computes and keeps, and the devices."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from img2brain._arrays import devices
from img2brain.amounts import counted, size_text
from img2brain.machine import memory_limit, n_cores

_PACKAGES = ("img2brain", "mlflow", "optuna", "torch")


def facts() -> dict[str, str]:
    """Return versions and devices."""
    versions = {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}
    cpu = f"{counted(n_cores(), 'core')}, {size_text(memory_limit(), 1024)}"
    return versions | {"cpu": cpu} | devices()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
