"""The MLflow flavour of an encoding model: a script in place of a pickle.

MLflow runs this file when it loads a registered model. Input is a table with one column, `image`: pictures as base64
text. Paths are read only where the environment variable ``IMG2BRAIN_ALLOW_PATHS`` is 1, which whoever runs the process
decides: a path that came over HTTP is not opened.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel
from numpy.typing import NDArray
from PIL import Image

from img2brain.datasets._images import decode_image
from img2brain.errors import DataError
from img2brain.model import EncodingModel

MAX_IMAGE_BYTES = 32 * 2**20
_DATA_URI = re.compile(r"^data:image/\w+;base64,")


class EncodingPythonModel(PythonModel):
    """Maps a table of images to a table of responses."""

    def load_context(self, context: Any) -> None:
        """Load the model from its files."""
        self._model = EncodingModel.load(Path(context.artifacts["model"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> NDArray[np.float32]:
        """Predict the responses to the images of a table with the column `image`, or to given features."""
        del context, params
        if self._model.takes_features:
            return self._model.predict(np.asarray(model_input, dtype=np.float64))
        allow_paths = os.environ.get("IMG2BRAIN_ALLOW_PATHS") == "1"
        return self._model.predict([decode(text, allow_paths=allow_paths) for text in _column(model_input)])


def decode(text: str, *, allow_paths: bool = False, max_bytes: int = MAX_IMAGE_BYTES) -> Image.Image | Path:
    """Return the picture that base64 text holds, of so many bytes at most, or, where allowed, the path that it is.

    Raises
    ------
    DataError
        If the text is neither. Only JPEG and PNG are decoded: other decoders have run programs before.
    """
    if allow_paths and _is_file(text):
        return Path(text)
    try:
        content = base64.b64decode(_DATA_URI.sub("", text), validate=True)
    except ValueError:
        content = b""
    if not content:
        raise DataError(f"An image must be a picture as base64 text. Got {text[:40]!r}.")
    if len(content) > max_bytes:
        raise DataError(f"An image must be at most {max_bytes} bytes. Got {len(content)}.")
    return decode_image(content)


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
