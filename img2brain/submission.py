"""Files of a challenge, as it takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from img2brain.datasets._trials import chosen_subject
from img2brain.datasets.algonauts2023 import HEMISPHERES, Algonauts2023, images_to_predict, vertices_of
from img2brain.errors import ShapeError


def write_algonauts(model: Any, data: Path, out: Path, subject: str | None = None) -> tuple[Path, ...]:
    """Predict the test images of a subject of the Algonauts challenge 2023, and write the arrays that it takes.

    Parameters
    ----------
    model : EncodingModel
        Of the vertices of both hemispheres, such as `load_model` gives.
    data : Path
        The folder of the challenge, or of the subject.
    out : Path
        ``SUBJECT/lh_pred_test.npy`` and ``SUBJECT/rh_pred_test.npy`` are written into it, float32 (images, vertices),
        images in the order of their rows.
    subject : str, optional
        Whose; needed where the folder holds several.

    Returns
    -------
    tuple of Path
        The two files.

    Raises
    ------
    DataError
        If there is no such subject, or a test image is missing.
    ShapeError
        If the model is one of other voxels.
    """
    subject = chosen_subject(Algonauts2023.subjects(data), subject, repr(str(data)))
    n_left, n_right = vertices_of(data, subject)
    predicted = np.asarray(model.predict(list(images_to_predict(data, subject))), dtype=np.float32)
    if predicted.shape[1] != n_left + n_right:
        raise ShapeError(
            f"The model must predict the {n_left} + {n_right} vertices of {subject!r}, all of them. "
            f"It predicts {predicted.shape[1]}."
        )
    folder = out / subject
    folder.mkdir(parents=True, exist_ok=True)
    files = tuple(folder / f"{side}_pred_test.npy" for side in HEMISPHERES)
    for file, part in zip(files, (predicted[:, :n_left], predicted[:, n_left:]), strict=True):
        np.save(file, np.ascontiguousarray(part))
    return files
