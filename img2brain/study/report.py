"""What a study shows at its end: pages and a note on its parent run, and the leaderboard of its dataset."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from img2brain.home import Home
from img2brain.leaderboard import figures
from img2brain.leaderboard.collect import collect
from img2brain.leaderboard.drawing import Figure, write_page
from img2brain.leaderboard.measure import Measure
from img2brain.leaderboard.record_numbers import confirmation_texts, other_texts
from img2brain.leaderboard.region_figures import regions
from img2brain.leaderboard.rows import Row
from img2brain.leaderboard.site.build import build
from img2brain.result import score_text
from img2brain.study.member import Member
from img2brain.study.member_run import MemberRun
from img2brain.study.outcome import StudyOutcome
from img2brain.study.search import Search, ToldTrial

log = logging.getLogger(__name__)

_SHOWN = 5


def report(home: Home, run: MemberRun, search: Search, outcome: StudyOutcome) -> None:
    """Write the pages and the note of a finished study, and build the leaderboard of the dataset of one member."""
    outcome = outcome.of(run.member.name)
    best = sorted((trial for trial in outcome.trials if trial.succeeded), key=lambda trial: -trial.score)
    with tempfile.TemporaryDirectory() as folder:
        metrics = {"best": best[0].score, "features_s": outcome.features_s}
        metrics["n_trials"] = len(outcome.trials)
        metrics["n_failed"] = sum(not trial.succeeded for trial in outcome.trials)
        if outcome.published is not None:
            metrics["confirmation"] = outcome.published.score
        rows = collect(home, run.member.dataset.name, whole=True)
        drawn = [*_figures(run, search, outcome.trials, best), *_regions(rows, outcome)]
        shown = write_page(drawn, Path(folder) / "figures.html", outcome.name)
        run.tracker.log_pages({"pages/figures.html": shown}, metrics, note(run.member, outcome, best))
    run.tracker.close()
    build(rows, home.leaderboards / run.member.dataset.name)


def _regions(rows: Sequence[Row], outcome: StudyOutcome) -> list[Figure]:
    """Draw the published model of this study by region, where there are any."""
    item = outcome.published
    name = f"{item.registered.name} v{item.registered.version}" if item else ""
    row = next((row for row in rows if name and row.registered == name), None)
    if row is None or row.confirmed is None or not row.confirmed.regions:
        return []
    return [regions(row)]


def note(member: Member, outcome: StudyOutcome, best: Sequence[ToldTrial]) -> str:
    """Write the note of a study in Markdown."""
    lines = [f"**{outcome.name}** on **{member.dataset.name}**", ""]
    lines += ["| trial | backbone | weights | layer | components | regressor | validation |", "|" + "---|" * 7]
    for trial in best[:_SHOWN]:
        spec = trial.spec
        cells = (f"#{trial.number}", spec.backbone, spec.weights, spec.space, spec.n_components, spec.regressor)
        lines.append("| " + " | ".join(map(str, cells)) + f" | {score_text(trial.score)} |")
    if outcome.published is not None:
        item = outcome.published
        lines += ["", f"Registered as `{item.registered.name}` version {item.registered.version}: {item.reason}."]
        if item.confirmation is not None and item.confirmation.confirmed is not None:
            of_first = confirmation_texts(item.confirmation.confirmed, item.confirmation.given_name)
            told = [*of_first, *other_texts(item.confirmation).items()]
            lines += ["", *(f"- {name}: {text}" for name, text in told)]
        lines += ["", f'`img2brain.load_model("{item.registered.name}/{item.registered.version}").predict(images)`']
    lines += [f"- {text}" for text in outcome.notes]
    return "\n".join(lines)


def _figures(run: MemberRun, search: Search, trials: Sequence[ToldTrial], best: Sequence[ToldTrial]) -> list[Figure]:
    """Draw the search, its parameters, its layers and the voxels of its best trials."""
    table, measure = _table(trials), _measure(run.member)
    accuracies = {
        f"#{trial.number} {trial.spec.label}": run.evaluator.evaluate(trial.spec).accuracy for trial in _drawn(best)
    }
    return [
        figures.optimisation_history(table, measure),
        figures.parameter_importances(_named(search.importances())),
        figures.layer_by_components(table, measure, _layers(run.member)),
        figures.accuracy_histogram(accuracies, measure),
    ]


def _drawn(best: Sequence[ToldTrial]) -> list[ToldTrial]:
    """Return the best trial of each regressor and, where these are few, other good ones; best first."""
    firsts: dict[str, ToldTrial] = {}
    for trial in best:
        firsts.setdefault(trial.spec.regressor, trial)
    chosen = {trial.number for trial in firsts.values()}
    others = [trial for trial in best if trial.number not in chosen][: max(0, _SHOWN - len(firsts))]
    return sorted([*firsts.values(), *others], key=lambda trial: -trial.score)


def _measure(member: Member) -> Measure:
    name, metric = next(iter(member.metrics.items()))
    return Measure(metric.label, metric.summary, name)


def _table(trials: Sequence[ToldTrial]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "trial": trial.number,
            "score": trial.score,
            "state": "COMPLETE" if trial.succeeded else "FAIL",
            "backbone": trial.spec.backbone,
            "layer": trial.spec.layer,
            "n_components": trial.spec.n_components,
            "regressor": trial.spec.regressor,
        }
        for trial in trials
    )


def _named(importances: Mapping[str, float]) -> dict[str, float]:
    """Name parameters as people do."""
    names = {"depth": "layer", "size": "n_components"}
    return {names.get(name, name): value for name, value in importances.items()}


def _layers(member: Member) -> Mapping[str, Sequence[str]]:
    return {bank.spec.name: bank.layers for bank in member.banks.values()}
