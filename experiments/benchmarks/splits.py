"""How much too good a score is where rows of one session, or of one category, are trained on and scored.

Simulated recordings of 432 rows: 9 categories in each of 12 sessions, 30 voxels, every session and every category with
a shift of its own (`_sessions.py`). Each split is made by `Dataset.split`, and its validation score is compared with
the true score of the same models in sessions, or categories, that nobody has met. Run it with

    uv run python experiments/benchmarks/splits.py
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

from _bench import Figures, main, table
from _sessions import Target, inflation

N_SIMULATIONS = 400
SPLITS: dict[str, dict[str, Any]] = {
    "random": {},
    "random-folds": {"folds": 5},
    "stratified": {"stratify": "category"},
    "groups-session": {"groups": "session"},
    "folds-session": {"folds": "session"},
    "groups-category": {"groups": "category"},
    "folds-category": {"folds": "category"},
}


def _inflation(asked: dict[str, Any], _: Path) -> Figures:
    from img2brain.spec import SplitSpec

    spec = SplitSpec(confirmation=0.0, **asked)
    return {target: inflation(spec, target, range(N_SIMULATIONS)) for target in get_args(Target)}


CONTENDERS: dict[str, Callable[[Path], Figures]] = {name: partial(_inflation, asked) for name, asked in SPLITS.items()}


def _said(found: Figures) -> list[str]:
    return [f"{found['true']:.3f}", f"{found['by']:+.4f} +- {found['half']:.4f}"]


def report(_: Path, figures: dict[str, Figures]) -> str:
    """Put each split's score beside the true ones."""
    rows = [[name, f"{found['session']['scored']:.3f}", *_said(found["session"]), *_said(found["category"])]
            for name, found in figures.items()]  # fmt: skip
    head = ["split", "validation", "new sessions", "inflation", "new categories", "inflation"]
    return (
        f"{table(head, rows)}\n\n{N_SIMULATIONS} simulations. Validation and truth are median r over voxels. The "
        "inflation is validation less truth,\nwith the half width of its 95 % interval."
    )


if __name__ == "__main__":
    main(__file__, CONTENDERS, report)
