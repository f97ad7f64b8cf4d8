"""The MLflow flavour of an encoding model: a script in place of a pickle.

MLflow runs this file when it loads a registered model. Input is a table with one column, `image`: pictures as base64
text. Paths are read only where the environment variable ``IMG2BRAIN_ALLOW_PATHS`` is 1, which whoever runs the process
decides: a path that came over HTTP is not opened.

A request is refused before a picture of it is decoded where one of them is not what it should be (``mlflow models
serve`` answers 422), or where its pictures are too large together (413). Pictures are decoded a few at a time, one
request after another. Regions are chosen by the parameter ``rois``, a list of their names.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.pyfunc import PythonModel
from numpy.typing import NDArray

from img2brain import sealed
from img2brain.answers import refuse_on_one_line
from img2brain.datasets._images import size_of
from img2brain.errors import DataError, SpecError
from img2brain.model import EncodingModel

MAX_IMAGE_BYTES = 32 * 2**20
MAX_REQUEST_PIXELS = 2**26  # 16 pictures of 2048 x 2048
LEAST_PIXELS = 224 * 224  # A smaller picture costs a network as much as one of this size.
_SERVER = "mlflow.pyfunc.scoring_server.app"
_DATA_URI = re.compile(r"^data:image/\w+;base64,")


class RefusedError(MlflowException, DataError):
    """A request that is not answered: `mlflow models serve` gives the status, and the reason on one line."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message, error_code=BAD_REQUEST)  # type: ignore[call-arg]
        self._reason, self._status = message, status

    def get_http_status_code(self) -> int:
        """Return 422 for a picture that is none, 413 for too much of them."""
        return self._status

    def serialize_as_json(self) -> str:
        """Return the answer: the server's own would show its paths and its stack."""
        return json.dumps({"error_code": self.error_code, "message": self._reason})


class EncodingPythonModel(PythonModel):
    """Maps a table of images to a table of responses."""

    def load_context(self, context: Any) -> None:
        """Load the model from its files."""
        folder = Path(context.artifacts["model"])
        sealed.check(folder.parents[1], but_for=[sealed.NO_CACHE])
        self._model = EncodingModel.load(folder)
        self._model.check()
        if _SERVER in sys.modules:  # This process makes a server of the model, and does nothing else.
            refuse_on_one_line()
        self._in_turn = Lock()

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> NDArray[np.floating]:
        """Predict the responses to the images of a table with the column `image`, or to given features.

        Raises
        ------
        RefusedError
            If something is not what it should be, or too much, or a region is not known.
        """
        del context
        try:
            images = self._input(model_input)
            with self._in_turn:
                return self._model.predict(images, (params or {}).get("rois") or None)
        except RefusedError:
            raise
        except (DataError, SpecError) as error:
            raise RefusedError(str(error)) from error

    def _input(self, model_input: Any) -> Any:
        if self._model.takes_features:
            return np.asarray(model_input, dtype=np.float64)
        allow_paths = os.environ.get("IMG2BRAIN_ALLOW_PATHS") == "1"
        images = [decode(text, allow_paths=allow_paths) for text in _column(model_input)]
        require_room([image for image in images if isinstance(image, bytes)])
        return images


def decode(text: str, *, allow_paths: bool = False, max_bytes: int = MAX_IMAGE_BYTES) -> bytes | Path:
    """Return the file that base64 text holds, of so many bytes at most, or, where allowed, the path that it is.

    Raises
    ------
    RefusedError
        If the text is neither.
    """
    if allow_paths and _is_file(text):
        return Path(text)
    content = _from_base64(_DATA_URI.sub("", text))
    if not content:
        raise RefusedError(f"An image must be a picture as base64 text. Got {text[:40]!r}.")
    if len(content) > max_bytes:
        raise RefusedError(f"An image must be at most {max_bytes} bytes. Got {len(content)}.", 413)
    return content


def require_room(images: Sequence[bytes], max_pixels: int = MAX_REQUEST_PIXELS) -> None:
    """Refuse pictures that have too many pixels together; their headers tell.

    Raises
    ------
    DataError
        If one has no header of a JPEG or PNG file: other decoders have run programs before.
    RefusedError
        If they are too large.
    """
    n_pixels = sum(max(width * height, LEAST_PIXELS) for width, height in map(size_of, images))
    if n_pixels > max_pixels:
        raise RefusedError(
            f"The images of a request must have at most {max_pixels} pixels together, each counted as at least "
            f"{LEAST_PIXELS}. Got {n_pixels} in {len(images)} images.",
            413,
        )


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or a null in it
        return False


def _column(table: Any) -> Iterable[str]:
    if hasattr(table, "columns"):
        return [str(value) for value in table["image"]]
    return [str(value) for value in np.asarray(table, dtype=object).reshape(-1)]


mlflow.models.set_model(EncodingPythonModel())
