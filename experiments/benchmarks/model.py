"""A saved model of 100 components and 10,000 voxels: how long it takes to load, to check and to predict.

Beside it what one would do without this package: scikit-learn's PCA and ridge in a file of joblib's, a pickle, with
torchvision's network and transform. Both have the same random network and random numbers of the same shapes; all times
are after imports, from files that the system has in memory.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _bench import Figures, main, seconds, table

N_COMPONENTS, N_VOXELS, N_IMAGES = 100, 10_000, 100
NETWORKS = {"alexnet": "features.12", "resnet50": "layer3"}


def _images() -> list[Any]:
    return list(np.random.RandomState(0).randint(0, 256, (N_IMAGES, 425, 425, 3)).astype(np.uint8))


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _numbers(n_features: int) -> tuple[Any, Any, Any]:
    """Return axes, coefficients and intercepts."""
    random = np.random.RandomState(1)
    axes = random.standard_normal((n_features, N_COMPONENTS)).astype(np.float32) / np.float32(np.sqrt(n_features))
    return axes, random.standard_normal((N_VOXELS, N_COMPONENTS)), random.standard_normal(N_VOXELS)


def _save_ours(network: str, folder: Path) -> None:
    from img2brain.backbones import load_backbone
    from img2brain.catalog import REGRESSORS
    from img2brain.features.pca import Axes
    from img2brain.model import EncodingModel
    from img2brain.spec import TrialSpec

    layer, backbone = NETWORKS[network], load_backbone(network, "random:0")
    config, tensors = backbone.export(layer)
    height, width = backbone.preprocessing.size
    with torch.inference_mode():
        n_features = backbone.extractor([layer])(torch.zeros(1, 3, height, width))[layer].shape[1]
    axes, coef, intercept = _numbers(n_features)
    spec = TrialSpec(
        backbone=network, weights="random:0", weights_digest=backbone.weights_digest, preprocessing="weights",
        layer=layer, n_components=N_COMPONENTS, regressor="ridge", parameters={"alpha": 1.0},
    )  # fmt: skip
    ridge = REGRESSORS["ridge"].from_arrays({"alpha": 1.0}, {"coef_": coef, "intercept_": intercept})
    about = {"dataset": "made", "n_voxels": N_VOXELS}
    shift = np.zeros(N_COMPONENTS, np.float32)
    EncodingModel(spec, config, tensors, Axes(axes, shift), ridge, about).save(folder)


def _ours(network: str, folder: Path) -> Figures:
    from img2brain.registered import load_model

    saved = folder / f"ours-{network}"
    _save_ours(network, saved)
    loading = seconds(lambda: load_model(str(saved)))
    model, images = load_model(str(saved)), _images()
    start = time.perf_counter()
    model.check()
    checking = time.perf_counter() - start
    model.predict(images[:1])
    one, many = seconds(lambda: model.predict(images[:1])), seconds(lambda: model.predict(images), 1)
    return {"load": loading, "check": checking, "one": one, "many": many, "bytes": _bytes(saved)}


def _theirs(network: str, folder: Path) -> Figures:
    import joblib
    import torchvision
    from sklearn.decomposition import PCA
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from torchvision.models.feature_extraction import create_feature_extractor
    from torchvision.transforms.functional import to_pil_image

    layer, saved = NETWORKS[network], folder / f"theirs-{network}"
    saved.mkdir()
    built, weights = getattr(torchvision.models, network), torchvision.models.get_model_weights(network)
    transform = weights.DEFAULT.transforms()
    extractor = create_feature_extractor(built().eval(), {layer: "found"})
    with torch.inference_mode():
        n_features = extractor(torch.zeros(1, 3, 224, 224))["found"].numel()
    axes, coef, intercept = _numbers(n_features)
    pca, ridge = PCA(N_COMPONENTS), Ridge()
    pca.components_, pca.mean_, pca.whiten = axes.T.copy(), np.zeros(n_features, np.float32), False
    pca.explained_variance_, pca.n_components_ = np.ones(N_COMPONENTS, np.float32), N_COMPONENTS
    ridge.coef_, ridge.intercept_, ridge.n_features_in_ = coef, intercept, N_COMPONENTS
    joblib.dump(make_pipeline(pca, ridge), saved / "pipeline.joblib")
    torch.save(extractor.state_dict(), saved / "network.pth")

    def load() -> tuple[Any, Any]:
        found = create_feature_extractor(built().eval(), {layer: "found"})
        found.load_state_dict(torch.load(saved / "network.pth", weights_only=True))
        return found, joblib.load(saved / "pipeline.joblib")

    def predict(images: list[Any]) -> Any:
        rows = []
        with torch.inference_mode():
            for first in range(0, len(images), 32):
                batch = torch.stack([transform(to_pil_image(image)) for image in images[first : first + 32]])
                rows.append(network_(batch)["found"].flatten(1).numpy())
        return pipeline.predict(np.concatenate(rows))

    loading = seconds(load)
    network_, pipeline = load()
    images = _images()
    predict(images[:1])
    one, many = seconds(lambda: predict(images[:1])), seconds(lambda: predict(images), 1)
    return {"load": loading, "check": float("nan"), "one": one, "many": many, "bytes": _bytes(saved)}


CONTENDERS = {
    **{f"img2brain {network}": lambda folder, network=network: _ours(network, folder) for network in NETWORKS},
    **{f"joblib {network}": lambda folder, network=network: _theirs(network, folder) for network in NETWORKS},
}


def report(_: Path, figures: dict[str, Figures]) -> str:
    """Put each beside the other."""
    rows = [
        [
            name,
            *(f"{found[key]:.3f}" for key in ("load", "check", "one", "many")),
            f"{found['bytes'] / 2**20:.0f}",
            f"{found['peak_mib']:.0f}",
        ]
        for name, found in figures.items()
    ]
    head = ["", "load s", "check s", "1 image s", f"{N_IMAGES} images s", "files MiB", "peak MiB"]
    return table(head, rows)


if __name__ == "__main__":
    main(__file__, CONTENDERS, report)
