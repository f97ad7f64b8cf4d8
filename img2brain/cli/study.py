"""``img2brain study``: begin, plan, run, list and show studies."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from img2brain.amounts import counted, size_text
from img2brain.cli._options import OpenHome, reads_home, writes_home
from img2brain.cli._shown import Shown, shows, terminal_width

if TYPE_CHECKING:
    from img2brain.home import Home
    from img2brain.publish import Publication
    from img2brain.records import Estimate
    from img2brain.spec import StudySpec
    from img2brain.study.outcome import StudyOutcome
    from img2brain.study.plan import Plan
    from img2brain.study.search import ToldTrial
    from img2brain.study.states import StudyState


@click.group()
def study() -> None:
    """Begin, plan, run, list and show studies."""


@study.command("init")
@click.argument("file", type=click.Path(path_type=Path), default=Path("my-study.toml"))
@click.option("--dataset", metavar="DIR", help="The folder of the data, from the folder of FILE; else sample data.")
def init_command(file: Path, dataset: str | None) -> None:
    """Write a study file in which every key is explained. It runs as it is.

    \b
    Example:
      img2brain study init my-study.toml --dataset my-recordings
    """
    from img2brain.study.init import init_study

    click.echo(f"wrote {init_study(file, dataset)}")


@study.command("run")
@click.argument("experiment", metavar="STUDY.toml", type=click.Path(path_type=Path))
@click.option("--trials", type=click.IntRange(min=1), help="Trials in all, in place of the file's.")
@click.option("--dataset", type=click.Path(path_type=Path), help="A dataset folder, in place of the file's.")
@click.option("--weights", help="Weights of every backbone, in place of the file's.")
@click.option("--shuffle", type=int, metavar="SEED", help="A control: responses shuffled against the images.")
@click.option("--device", help="auto, cpu, cuda or cuda:N, in place of the file's.")
@click.option("--precision", help="auto, bfloat16 or float32, in place of the file's.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, help="Processes that work on its trials; they share the cores."
)
@click.option("--scheduler", metavar="URL", help="A Dask scheduler, tcp://HOST:PORT, whose workers do the work.")
@writes_home
def run_command(experiment: Path, open_home: OpenHome, workers: int, **changes: Any) -> None:
    """Run the study of a file, or go on with it where it was left.

    Every trial is tracked; the best is refitted, scored on rows that the search never saw, and registered.

    \b
    Example:
      img2brain study run experiments/quickstart.toml
      img2brain study run experiments/v4.toml --weights random:0
      img2brain study run experiments/v4.toml --workers 4
    """
    from img2brain.spec import load_study

    spec = _changed(load_study(experiment), changes)  # A wrong file is refused before PyTorch is imported.

    from img2brain._heap import keep_freed_memory
    from img2brain.study.runner import run_study

    home = open_home()
    keep_freed_memory()
    _tell(run_study(spec, home, workers=workers), home)


@study.command("worker")
@click.argument("study")
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads that it computes on; by default, one for each core."
)
@click.option("--no-finish", is_flag=True, help="Work on trials alone: others publish the best one.")
@click.option("--tied", is_flag=True, hidden=True, help="End with the process that started it.")
@writes_home
def worker_command(study: str, open_home: OpenHome, threads: int | None, no_finish: bool, tied: bool) -> None:
    """Work on a study beside other workers.

    STUDY is its name or, to begin it where it was not, its file (.toml). A worker comes and goes at any
    time. Who is the last to have nothing left to do publishes the best trial.

    \b
    Example:
      img2brain study worker quickstart --threads 2
    """
    from img2brain.spec import load_study
    from img2brain.study.workers import end_with_parent, thread_settings

    if tied:
        end_with_parent()
    asked = load_study(study) if study.endswith(".toml") else study
    if threads:
        os.environ.update(thread_settings(threads))  # before the libraries that read it are imported

    from img2brain._arrays import use_threads
    from img2brain._heap import keep_freed_memory
    from img2brain.study.runner import join_study

    if threads:
        use_threads(threads)
    home = open_home()
    keep_freed_memory()
    outcome = join_study(asked, home, not no_finish, tied)
    if outcome is not None:
        _tell(outcome, home)


def _tell(outcome: StudyOutcome, home: Home) -> None:
    """Print the best trials of a study, and what became of the best one."""
    from img2brain.leaderboard.collect import collect, owner
    from img2brain.leaderboard.rows import boards
    from img2brain.leaderboard.table import as_text, ranked

    whose = outcome.name, owner(home, outcome.home)
    names = [item.registered.name for item in _published(outcome).values()]
    rows = [row for name in dict.fromkeys(names) for row in collect(home, name)]
    for board in boards(row for row in rows if (row.study, row.home) == whose):
        click.echo(as_text(ranked(board).head(10), terminal_width()))
    click.echo(_closing(outcome, home))


@study.command("plan")
@click.argument("experiment", metavar="STUDY.toml", type=click.Path(path_type=Path))
@click.option("--trials", type=click.IntRange(min=1), help="Trials in all, in place of the file's.")
@click.option("--dataset", type=click.Path(path_type=Path), help="A dataset folder, in place of the file's.")
@click.option("--device", help="auto, cpu, cuda or cuda:N, in place of the file's.")
@click.option("--precision", help="auto, bfloat16 or float32, in place of the file's.")
@reads_home
@shows
def plan_command(experiment: Path, open_home: OpenHome, **changes: Any) -> Shown:
    """Say what a study will take, and whether it fits.

    A line for each stage: passes over the pictures (extract) or over the responses, what is read, disk that stays and
    that is taken for a while (scratch), the most memory, and seconds of one core. The home is left as it is. What is
    cached in the home, or told, counts as done. Ends with 2 where the study does not fit this machine.

    \b
    Example:
      img2brain study plan experiments/quickstart.toml
      img2brain study plan experiments/v4.toml --trials 500
    """
    from img2brain.errors import NoHomeError
    from img2brain.spec import load_study
    from img2brain.study.plan import plan

    spec = _changed(load_study(experiment), changes)
    try:
        there = open_home()
    except NoHomeError:
        there = None
    found = plan(spec, there)
    return Shown(found.to_dict(), _plan_lines(spec.name, found), 2 if found.problems else 0)


@study.command("list")
@reads_home
@shows
def list_command(open_home: OpenHome) -> Shown:
    """List the studies, and how far each is. Some may be at work.

    \b
    Example:
      img2brain study list
    """
    from img2brain.study.states import states

    found = states(open_home())
    return Shown([_state_facts(item) for item in found], list(map(_state_line, found)) or ["There are no studies yet."])


@study.command("show")
@click.argument("name")
@click.option("--most", type=click.IntRange(min=1), help="Trials of each study; by default all.")
@reads_home
@shows
def show_command(name: str, most: int | None, open_home: OpenHome) -> Shown:
    """Show the trials of a study, the best first.

    NAME is the one in the study file, which several studies may have, or the full one of the list.

    \b
    Example:
      img2brain study show quickstart
      img2brain study show quickstart --most 10
    """
    from img2brain.study.states import states_of

    found = [(state, sorted(trials, key=_rank)[:most]) for state, trials in states_of(open_home(), name)]

    def facts() -> list[dict[str, Any]]:
        return [_state_facts(state) | {"trials": list(map(_trial_facts, trials))} for state, trials in found]

    return Shown(facts, (line for state, trials in found for line in _lines(state, trials)))


def _plan_lines(name: str, found: Plan) -> Iterator[str]:
    """Tell of a plan, a line for each stage."""
    told = f", {found.n_told} of them over" if found.n_told else ""
    yield f"{name}: {counted(found.n_trials, 'trial')}{told}"
    for network, (n_images, seconds) in found.networks.items():
        passes = counted(n_images, "picture passes", "pictures pass")
        yield f"{network}: {passes}, {1000 * seconds:.1f} ms of one core each"
    yield _columns("stage", "passes", "read", "kept", "scratch", "memory", "core s")
    for stage in found.stages:
        sizes = [size_text(size) for size in (stage.read_bytes, stage.disk_bytes, stage.scratch_bytes)]
        memory = size_text(stage.memory_bytes, 1024)
        yield _columns(stage.name, f"{stage.passes:.1f}", *sizes, memory, f"{stage.work_s:.1f}")
    yield (
        f"in all: {size_text(found.disk_bytes)} of disk, {size_text(found.disk_free)} free; "
        f"{size_text(found.memory_bytes, 1024)} of memory, {size_text(found.memory_limit, 1024)} there; "
        f"{found.work_s:,.0f} s of one core, some {found.wall_s:,.0f} s where {found.n_cores} are free"
    )
    for problem in found.problems:
        yield f"It does not fit. {problem}"


def _columns(stage: str, passes: str, *others: str) -> str:
    return " ".join([f"{stage:<8} {passes:>7}", *(f"{cell:>10}" for cell in others)])


def _rank(trial: ToldTrial) -> tuple[bool, float, int]:
    return not trial.succeeded, -trial.score, trial.number


def _trial_facts(trial: ToldTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "score": trial.score,
        "failure": trial.failure,
        "spec": trial.spec.model_dump(mode="json"),
    }


def _lines(state: StudyState, trials: Sequence[ToldTrial]) -> Iterator[str]:
    """Tell of a study, why trials failed, and of each trial."""
    from img2brain.result import score_text

    yield _state_line(state)
    yield from (f"{n:>6} failed: {reason}" for reason, n in state.failures.items())
    for trial in trials:
        score = trial.failure or score_text(trial.score)
        yield f"{f'#{trial.number}':>6}  {score}  {trial.spec.weighted_label}"


def _state_facts(item: StudyState) -> dict[str, Any]:
    facts = asdict(item)
    return facts | {"ends": item.ends.isoformat(timespec="seconds") if item.ends else None}


def _state_line(item: StudyState) -> str:
    """Tell on a line how far a study is."""
    from img2brain.result import score_text

    best = "no score" if item.best is None else f"best {score_text(item.best)}"
    n_all = item.n_wanted or item.n_trials
    of_all = f"{item.n_trials} of " if n_all != item.n_trials else ""
    trials = f"{of_all}{counted(n_all, 'trial')}, {item.n_failed} failed, {best}" if item.n_trials else "no trials yet"
    at_work = f"running, {counted(item.n_workers, 'worker')}" if item.n_workers else item.state
    rate = f", {counted(round(item.per_hour), 'trial', form=',')} an hour" if item.n_workers and item.per_hour else ""
    ends = f", until {item.ends:%Y-%m-%d %H:%M}" if item.ends else ""
    return f"{item.study}: {trials}; {at_work}{rate}{ends}"


def _changed(spec: StudySpec, changes: dict[str, Any]) -> StudySpec:
    """Put the options of the command line in place of the file's."""
    from img2brain.spec import absolute_weights, with_overrides

    given = {name: value for name, value in changes.items() if value is not None}
    fields: dict[str, Any] = {name: given[name] for name in ("trials", "device", "precision") if name in given}
    if "scheduler" in given:
        fields["cluster"] = {**_tls(spec), "kind": "scheduler", "address": given["scheduler"]}
    if "weights" in given:
        weights = absolute_weights(given["weights"], Path.cwd())
        fields["backbones"] = [{**item.model_dump(), "weights": weights} for item in spec.backbones]
    if "dataset" in given:
        fields |= {"dataset": {"path": given["dataset"].resolve()}, "datasets": ()}
    if "shuffle" in given:
        fields |= _shuffled(with_overrides(spec, **fields), given["shuffle"])
    return with_overrides(spec, **fields) if fields else spec


def _tls(spec: StudySpec) -> dict[str, Any]:
    """Return what the file says of any cluster, whatever its kind."""
    keys = {"wait_s", "tls_ca", "tls_cert", "tls_key"}
    return spec.cluster.model_dump(include=keys, exclude_unset=True) if spec.cluster else {}


def _shuffled(spec: StudySpec, seed: int) -> dict[str, Any]:
    """Shuffle the responses of all data of a study."""
    tables = [item.model_dump(exclude_none=True) | {"shuffle": seed} for item in spec.data]
    return {"datasets": tables} if spec.datasets else {"dataset": tables[0] if tables else {"shuffle": seed}}


def _closing(outcome: StudyOutcome, home: Home) -> str:
    from img2brain.result import score_text

    best = outcome.best
    assert best is not None, "a study that ends has a best trial"
    over = f", mean over {len(outcome.members)} members" if outcome.members else ""
    lines = [
        ("best trial", f"#{best.number} {best.spec.label}"),
        ("validation", f"{score_text(best.score)} ({outcome.objective}{over}, on the rows that chose it)"),
        *(_mean_lines(outcome) if outcome.members else ()),
        *(line for name, item in _published(outcome).items() for line in _published_lines(name, item, outcome, home)),
        *(("note", text) for text in outcome.notes),
    ]
    return "\n".join(["", *(f"{heading:<14} {text}" for heading, text in lines)])


def _published(outcome: StudyOutcome) -> dict[str, Publication]:
    """Return what was published on each member; without a name, where the study has one dataset."""
    assert outcome.published is not None, "a study that ends has published its best trial"
    return dict(outcome.members) or {"": outcome.published}


def _published_lines(member: str, item: Publication, outcome: StudyOutcome, home: Home) -> Iterator[tuple[str, object]]:
    """Tell of a published model, of several members after a line with the member's name."""
    from img2brain.leaderboard.record_numbers import confirmation_texts, other_texts
    from img2brain.result import score_text

    name = item.registered.name
    record = item.confirmation
    if member and outcome.best is not None:
        yield "member", f"{member}: validation {score_text(outcome.best.of(member).score)}"
    if record is None or record.confirmed is None:
        yield "confirmation", "none: no rows were kept from the search"
    else:
        yield from (*confirmation_texts(record.confirmed, record.given_name), *other_texts(record).items())
    yield "registered", f"{name} version {item.registered.version}: {item.reason}"
    yield "leaderboard", home.leaderboards / name / "index.html"


def _mean_lines(outcome: StudyOutcome) -> Iterator[tuple[str, object]]:
    """Tell of the mean over members on the confirmation rows."""
    from img2brain.result import score_text

    mean = outcome.mean
    if mean is None:
        yield "confirmation", "no mean: a member has no rows that were kept from the search"
        return
    whom = "members like these" if mean.is_of_a_sample else "these members"
    yield "confirmation", f"{_interval_text(mean.score)} (mean over {len(outcome.members)}, interval for {whom})"
    for name, control in mean.controls.items():
        yield "control", f"{name} {score_text(control.score)}, the model {_interval_text(control.difference, '+')}"


def _interval_text(found: Estimate, sign: str = "") -> str:
    """Write a number with its interval, without one where it is not known."""
    if math.isnan(found.low):
        return f"{found.estimate:{sign}.4f}, no interval"
    return f"{found.estimate:{sign}.4f} [{found.low:{sign}.4f}, {found.high:{sign}.4f}]"
