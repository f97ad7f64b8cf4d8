"""Which MLflow a tracking server runs: no two versions write into one store."""

from __future__ import annotations

import re

from img2brain.errors import TrackingError

_VERSION = re.compile(r"(\d+)\.(\d+)\.\d+\S*")


def require_same_server(uri: str) -> None:
    """Refuse a server of another version of MLflow, where it says which one it is; the last number may differ.

    Raises
    ------
    TrackingError
        With both versions, and what to do.
    """
    from mlflow import __version__

    found = _said_by(uri) if uri.startswith(("http://", "https://")) else ""
    if found and _parts(found) != _parts(__version__):
        raise TrackingError(
            f"The tracking server must run the MLflow that is here, {__version__}. It runs {found}: use one version of "
            f"MLflow, such as pip install 'mlflow=={found}' here."
        )


def _said_by(uri: str) -> str:
    """Return the version that a server says; nothing where it says none, as one behind a proxy may."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    answer = http_request(get_default_host_creds(uri), "/version", "GET", max_retries=0, raise_on_status=False)
    said = answer.text.strip() if answer.status_code == 200 else ""
    return said if _VERSION.fullmatch(said) else ""


def _parts(version: str) -> tuple[str, ...]:
    found = _VERSION.fullmatch(version)
    return found.groups() if found else (version,)
