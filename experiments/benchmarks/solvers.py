"""What fits and scores cost at full size: 7086 + 1771 rows, 100 features, 10,000 voxels, each beside its peer.

Times are from rows in memory to coefficients, moments included; ours from moments, which all trials on the same
features share, and their ratio stand in columns of their own. Ours get the rows in float32, as features and responses
are stored; peers get the same numbers in float64, which they otherwise convert them to, and scikit-learn's multi-task
lasso in float32 too. Features are principal components of the training rows, or correlated with each other. Alpha of
the lasso family is near the one that predicts best. Peers stop at their own default tolerances, ours at a duality gap
of 1e-10: where features are correlated, that is what their coefficients differ by, and scikit-learn's lasso is measured
at a tolerance like ours too. Slow peers are measured on the first voxels and scaled in proportion, as their time grows:
those that treat voxels one by one, and skglm's multi-task lasso, beside which ours fits the same voxels for the
agreement, and which is measured on half of them as well, to see that it grows in proportion. Their rows say on how
many.

Beside the table stands what bounds a fit from rows from below: X'Y alone, one product in float32, and the moments as we
take them. Run it with

    uv run --group bench python experiments/benchmarks/solvers.py [CONTENDER ...]
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _bench import main, seconds, table
from _rows import N_VOXELS, rows

FEW = 500
TOGETHER = {"pca": N_VOXELS, "correlated": 1000}  # scikit-learn needs many sweeps of correlated features
N_NEIGHBORS = 5
RIDGE_ALPHAS = np.geomspace(1e-2, 1e5, 20)
SHARE_OF_SCALE = 0.01

Figures = dict[str, Any]
Fit = Callable[[], Any]
Contender = Callable[[Path], Figures]


def _keep(folder: Path, name: str, array: Any) -> None:
    np.save(folder / f"{name}.npy", np.asarray(array))


def _once(function: Fit) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def _fitted(folder: Path, name: str, fit: Fit, n_voxels: int = N_VOXELS) -> Figures:
    """Time one fit, keep its coefficients and scale its time to all voxels."""
    duration, regressor = _once(fit)
    _keep(folder, name, regressor.coef_)
    return {"seconds": duration * N_VOXELS / n_voxels, "voxels": n_voxels}


def _lasso(name: str, moments: Any) -> Any:
    """Return our regressor at the benchmark's alpha."""
    from img2brain.catalog import REGRESSORS

    return REGRESSORS[name](alpha=SHARE_OF_SCALE * REGRESSORS[name]().alpha_scale(moments))


def _alpha(name: str, X: Any, Y: Any) -> float:
    from img2brain.moments import Moments

    return float(_lasso(name, Moments.from_rows(X, Y)).alpha)


def _ours(regressor: str, kind: str) -> Contender:
    def run(folder: Path) -> Figures:
        from img2brain.moments import Moments

        X, Y, _, _ = rows(folder, kind, np.float32)
        Y = np.ascontiguousarray(Y[:, : TOGETHER[kind]]) if regressor == "multi_task_lasso" else Y
        moments = Moments.from_rows(X, Y)
        fitted = _lasso(regressor, moments)
        shared = seconds(lambda: fitted.fit_moments(moments), repeats=9)
        _keep(folder, f"{regressor}-{kind}", fitted.coef_)
        whole = seconds(lambda: fitted.fit_moments(Moments.from_rows(X, Y)), repeats=9)
        return {"seconds": whole, "from moments": shared}

    return run


def _profile(folder: Path) -> Figures:
    """Time what a fit from rows cannot do without: X'Y alone in float32, and the moments that it is part of."""
    from img2brain.moments import Moments

    X, Y, _, _ = rows(folder, "pca", np.float32)
    left = np.ascontiguousarray(X.T)
    return {
        "product": seconds(lambda: left @ Y, repeats=9),
        "moments": seconds(lambda: Moments.from_rows(X, Y), repeats=9),
    }


def _scikit_learn_multi_task(kind: str, dtype: type = np.float64) -> Contender:
    def run(folder: Path) -> Figures:
        from sklearn.linear_model import MultiTaskLasso

        X, Y, _, _ = rows(folder, kind, dtype)
        Y = np.ascontiguousarray(Y[:, : TOGETHER[kind]])
        peer = MultiTaskLasso(alpha=_alpha("multi_task_lasso", X, Y))
        name = f"multi_task_lasso-{kind}-scikit-learn{'-float32' if dtype is np.float32 else ''}"
        return _fitted(folder, name, lambda: peer.fit(X, Y))

    return run


def _skglm_multi_task(kind: str) -> Contender:
    def run(folder: Path) -> Figures:
        from skglm import MultiTaskLasso

        from img2brain.moments import Moments

        X, Y, _, _ = rows(folder, kind)
        X, Y = np.asfortranarray(X), np.asfortranarray(Y[:, :FEW])
        moments = Moments.from_rows(X, Y)
        ours = _lasso("multi_task_lasso", moments).fit_moments(moments)
        peer = MultiTaskLasso(alpha=ours.alpha)
        peer.fit(X[:100].copy("F"), Y[:100, :10].copy("F"))  # compiles
        half, _ = _once(lambda: peer.fit(X, np.asfortranarray(Y[:, : FEW // 2])))
        duration, _ = _once(lambda: peer.fit(X, Y))
        agreement = f"{np.abs(peer.coef_ - ours.coef_).max():.1e}"
        scale = TOGETHER[kind] / FEW
        return {"seconds": duration * scale, "voxels": FEW, "agreement": agreement, "doubling": duration / half}

    return run


def _scikit_learn_lasso(kind: str, name: str = "scikit-learn", **options: float) -> Contender:
    def run(folder: Path) -> Figures:
        from sklearn.linear_model import Lasso

        X, Y, _, _ = rows(folder, kind)
        peer = Lasso(alpha=_alpha("lasso", X, Y), **options)
        return _fitted(folder, f"lasso-{kind}-{name}", lambda: peer.fit(X, Y[:, :FEW]), FEW)

    return run


def _celer_lasso(kind: str) -> Contender:
    def run(folder: Path) -> Figures:
        from celer import Lasso

        X, Y, _, _ = rows(folder, kind)
        X = np.asfortranarray(X)
        alpha = _alpha("lasso", X, Y)
        duration, coef = _once(lambda: [Lasso(alpha=alpha).fit(X, y).coef_ for y in Y.T[:FEW].copy()])
        _keep(folder, f"lasso-{kind}-celer", coef)
        return {"seconds": duration * N_VOXELS / FEW, "voxels": FEW}

    return run


def _ridge_cv(folder: Path) -> Figures:
    from img2brain.regressors.ridge_cv import RidgeCV

    X, Y, _, _ = rows(folder, "correlated", np.float32)
    regressor = RidgeCV(alphas=tuple(RIDGE_ALPHAS), cv=3, per_voxel=True)
    duration = seconds(lambda: regressor.fit(X, Y))
    _keep(folder, "ridge_cv", regressor.alpha_)
    return {"seconds": duration}


def _r2(true: Any, predicted: Any) -> Any:
    """Score predictions (n_alphas, n_images, n_voxels). In himalaya's own R2 the held-out mean is that of the rest."""
    return 1 - ((true - predicted) ** 2).mean(-2) / ((true - true.mean(0)) ** 2).mean(0)


def _ridge_cv_himalaya(folder: Path) -> Figures:
    from himalaya.backend import set_backend
    from himalaya.ridge import RidgeCV
    from sklearn.model_selection import KFold

    set_backend("torch")
    X, Y, _, _ = rows(folder, "correlated")
    peer = RidgeCV(alphas=RIDGE_ALPHAS, cv=KFold(3), fit_intercept=True, solver_params={"score_func": _r2})
    duration, _ = _once(lambda: peer.fit(X, Y))
    _keep(folder, "ridge_cv-himalaya", peer.best_alphas_)
    return {"seconds": duration}


def _predictions(folder: Path) -> tuple[Any, Any]:
    """Return responses of the validation rows, and predictions of a ridge."""
    from img2brain.regressors.ridge import Ridge

    X, Y, X_new, Y_new = rows(folder, "pca")
    return Y_new, Ridge(alpha=100.0).fit(X, Y).predict(X_new)


def _pearson(folder: Path) -> Figures:
    from img2brain.metrics.pearson import pearson

    Y, predicted = _predictions(folder)
    _keep(folder, "pearson", pearson(Y, predicted))
    return {"seconds": seconds(lambda: pearson(Y, predicted), repeats=9)}


def _pearson_scipy(folder: Path) -> Figures:
    from scipy.stats import pearsonr

    Y, predicted = _predictions(folder)
    columns = range(Y.shape[1])
    duration, r = _once(lambda: [pearsonr(Y[:, j], predicted[:, j]).statistic for j in columns])
    _keep(folder, "pearson-scipy", r)
    return {"seconds": duration}


def _rows_regressor(name: str, make: Callable[[], Any]) -> Contender:
    """Time a fit and a prediction, and keep r on the validation rows."""

    def run(folder: Path) -> Figures:
        from img2brain.metrics.pearson import pearson

        X, Y, X_new, Y_new = rows(folder, "pca")
        regressor = make()
        duration, predicted = _once(lambda: regressor.fit(X, Y).predict(X_new))
        _keep(folder, name, pearson(Y_new, predicted))
        return {"seconds": duration}

    return run


def _neighbors() -> Any:
    from img2brain.regressors.k_neighbors import KNeighbors

    return KNeighbors(N_NEIGHBORS)


def _neighbors_scikit_learn() -> Any:
    from sklearn.neighbors import KNeighborsRegressor

    return KNeighborsRegressor(N_NEIGHBORS)


def _tree() -> Any:
    from img2brain.regressors.decision_tree import DecisionTree

    return DecisionTree()


def _tree_scikit_learn() -> Any:
    from sklearn.tree import DecisionTreeRegressor

    return DecisionTreeRegressor(random_state=0)


def _contenders() -> dict[str, Contender]:
    found: dict[str, Contender] = {"profile": _profile}
    for kind in ("pca", "correlated"):
        found |= {
            f"multi_task_lasso-{kind}": _ours("multi_task_lasso", kind),
            f"multi_task_lasso-{kind}-scikit-learn": _scikit_learn_multi_task(kind),
            f"multi_task_lasso-{kind}-scikit-learn-float32": _scikit_learn_multi_task(kind, np.float32),
            f"multi_task_lasso-{kind}-skglm": _skglm_multi_task(kind),
            f"lasso-{kind}": _ours("lasso", kind),
            f"lasso-{kind}-scikit-learn": _scikit_learn_lasso(kind),
            f"lasso-{kind}-scikit-learn-tol-1e-8": _scikit_learn_lasso(kind, "scikit-learn-tol-1e-8", tol=1e-8),
            f"lasso-{kind}-celer": _celer_lasso(kind),
        }
    return found | {
        "ridge_cv": _ridge_cv,
        "ridge_cv-himalaya": _ridge_cv_himalaya,
        "pearson": _pearson,
        "pearson-scipy": _pearson_scipy,
        "k_neighbors": _rows_regressor("k_neighbors", _neighbors),
        "k_neighbors-scikit-learn": _rows_regressor("k_neighbors-scikit-learn", _neighbors_scikit_learn),
        "decision_tree": _rows_regressor("decision_tree", _tree),
        "decision_tree-scikit-learn": _rows_regressor("decision_tree-scikit-learn", _tree_scikit_learn),
    }


def _agreement(folder: Path, ours: str, peer: str) -> str:
    """Say how near the results are: choices of alpha, r on validation rows, or coefficients."""
    files = [folder / f"{name}.npy" for name in (ours, peer)]
    if not all(file.exists() for file in files):
        return "-"
    one, other = (np.load(file) for file in files)
    if ours == "ridge_cv":
        return f"{np.isclose(one, other).mean():.2%} of alphas"
    if ours in ("k_neighbors", "decision_tree"):
        return f"median r {np.nanmedian(one):.4f}, {np.nanmedian(other):.4f}"
    return f"{np.abs(one[: len(other)] - other).max():.1e}"


def report(folder: Path, figures: dict[str, Figures]) -> str:
    """Put each of ours beside its peers."""
    head = [
        "",
        "ours s",
        "from moments s",
        "peer s",
        "ratio",
        "ratio from moments",
        "ours MiB",
        "peer MiB",
        "agreement",
    ]
    lines = []
    for name, peer in figures.items():
        ours_name = next((item for item in figures if name.startswith(f"{item}-")), None)
        ours = figures[ours_name] if ours_name else {}
        if "seconds" not in peer or (not ours_name and any(item.startswith(f"{name}-") for item in figures)):
            if "absent" in peer:
                lines.append([f"{name}: {peer['absent']} is absent", *8 * ["-"]])
            continue
        scaled = f" ({peer['voxels']} voxels, scaled)" if peer.get("voxels", N_VOXELS) < N_VOXELS else ""
        scaled += " (of 1000 voxels)" if name.startswith("multi_task_lasso-correlated") else ""
        lines.append(
            [
                name + scaled,
                _number(ours.get("seconds")),
                _number(ours.get("from moments")),
                _number(peer["seconds"]),
                _number(peer["seconds"] / ours["seconds"] if ours else None, "x"),
                _number(peer["seconds"] / ours["from moments"] if "from moments" in ours else None, "x"),
                _number(ours.get("peak_mib")),
                _number(peer["peak_mib"]),
                peer.get("agreement") or _agreement(folder, ours_name or name, name),
            ]
        )
    bounds = [
        f"of a fit from rows, X'Y alone in float32: {item['product']:.3f} s; the moments: {item['moments']:.3f} s"
        for item in figures.values()
        if "product" in item
    ]
    growth = [
        f"{name}: twice the voxels take {item['doubling']:.2f} times as long"
        for name, item in figures.items()
        if "doubling" in item
    ]
    return "\n".join([table(head, lines), "", *bounds, *growth])


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "-"
    return f"{value:.0f}{unit}" if value >= 10 else f"{value:.3f}{unit}"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(__file__, _contenders(), report)
