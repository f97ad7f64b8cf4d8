"""The MLflow flavour of an encoding model: a script in place of a pickle.

MLflow runs this file when it loads a registered model. Input is a table with one column, `image`: pictures as base64
text. Paths are read only where the caller says so (``model_config={"allow_paths": True}``): a path that came over
HTTP is never opened.
"""

from __future__ import annotations

import base64
import binascii
import io
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

from img2brain.errors import DataError
from img2brain.model import EncodingModel

MAX_IMAGE_BYTES = 32 * 2**20
_DATA_URI = re.compile(r"^data:image/\w+;base64,")


class EncodingPythonModel(PythonModel):
    """Maps a table of images to a table of responses."""

    def load_context(self, context: Any) -> None:
        """Load the model from its files."""
        self._model = EncodingModel.load(Path(context.artifacts["model"]))
        self._allow_paths = bool((context.model_config or {}).get("allow_paths", False))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> NDArray[np.float32]:
        """Predict the responses to the images of a table with the column `image`."""
        del context, params
        images = _column(model_input)
        return self._model.predict([decode(text, allow_paths=self._allow_paths) for text in images])


def decode(text: str, *, allow_paths: bool = False) -> Image.Image | Path:
    """Return the picture that base64 text holds, or, where allowed, the path that it is.

    Raises
    ------
    DataError
        If the text is neither.
    """
    try:
        content = base64.b64decode(_DATA_URI.sub("", text), validate=True)
        if len(content) > MAX_IMAGE_BYTES:
            raise DataError(f"An image must be at most {MAX_IMAGE_BYTES} bytes. Got {len(content)}.")
        return Image.open(io.BytesIO(content))
    except (binascii.Error, ValueError, OSError) as error:
        if isinstance(error, DataError):
            raise
        if allow_paths and Path(text).is_file():
            return Path(text)
        raise DataError(f"An image must be a picture as base64 text. Got {text[:40]!r}.") from None


def _column(table: Any) -> Iterable[str]:
    if hasattr(table, "columns"):
        return [str(value) for value in table["image"]]
    return [str(value) for value in np.asarray(table, dtype=object).reshape(-1)]


mlflow.models.set_model(EncodingPythonModel())
