"""Commands of ``img2brain model`` about what is kept of models: their history, tags, descriptions, steps back."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from img2brain.cli._options import OpenHome, reads_home
from img2brain.cli._shown import Shown, shows

if TYPE_CHECKING:
    from img2brain.curation import History, KnownVersion
    from img2brain.records import Estimate
    from img2brain.tracking.registry import Crowning


@click.command("history")
@click.argument("name")
@reads_home
@shows
def history_command(name: str, open_home: OpenHome) -> Shown:
    """Tell what became of all versions of a model.

    That is their scores, who was champion when and why, origin and tags.

    \b
    Example:
      img2brain model history v4-210224
    """
    from img2brain.curation import model_history
    from img2brain.leaderboard.rows import printable

    found = model_history(name, open_home())
    return Shown(_facts(found), map(printable, _lines(found)))


@click.command("rollback")
@click.argument("name")
@reads_home
def rollback_command(name: str, open_home: OpenHome) -> None:
    """Make the champion before the present one champion again.

    It does what `model crown` does for any version.

    \b
    Example:
      img2brain model rollback v4-210224
    """
    from img2brain.curation import rollback_model

    click.echo(f"{name}: {rollback_model(name, open_home(), user())}")


@click.command("tag")
@click.argument("name", metavar="NAME/VERSION")
@click.argument("tag", metavar="KEY=VALUE")
@reads_home
def tag_command(name: str, tag: str, open_home: OpenHome) -> None:
    """Tag a version; KEY= takes the tag away.

    \b
    Example:
      img2brain model tag v4-210224/2 paper="figure 3"
    """
    from img2brain.curation import own_tags, tag_model
    from img2brain.errors import ModelError, quoted
    from img2brain.leaderboard.rows import printable

    key, equals, value = tag.partition("=")
    if not equals:
        raise ModelError(f"A tag must be given as KEY=VALUE. Got {quoted(tag)}.")
    item = tag_model(name, key, value, open_home())
    tags = ", ".join(f"{key}={value}" for key, value in own_tags(item.tags).items())
    click.echo(printable(f"{item.name}/{item.version}: {tags}"))


@click.command("describe")
@click.argument("name", metavar="NAME[/VERSION]")
@click.argument("text")
@reads_home
def describe_command(name: str, text: str, open_home: OpenHome) -> None:
    """Describe a version, or all versions of a name, in Markdown.

    \b
    Example:
      img2brain model describe v4-210224/2 "The model of figure 3."
    """
    from img2brain.curation import describe_model

    describe_model(name, text, open_home())
    click.echo(f"{name}: described")


def user() -> str:
    """Return who runs the command; nothing where the system does not know."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def version_facts(known: KnownVersion) -> dict[str, Any]:
    """Return what is known of a version, as plain data."""
    item, trial, score = known.registered, known.trial, known.confirmation
    return {
        "name": item.name,
        "version": item.version,
        "aliases": list(item.aliases),
        "registered": _time(item.made_ms),
        "run": item.run_id,
        "trial": trial.record.spec.label if trial else None,
        "metric": trial.record.metrics[trial.record.objective].label if trial else None,
        "validation": trial.record.score if trial else None,
        "confirmation": _bounds(score) if score else None,
        **_parts(known),
        "crowned": [{"at": _time(crowning.made_ms), "reason": crowning.reason} for crowning in known.crownings],
        "decided": known.decided or None,
        "origin": known.origin or None,
        "tags": known.tags,
        "description": item.description,
    }


def _parts(known: KnownVersion) -> dict[str, Any]:
    """Return what each named part of the confirmation rows says, and by how much the score drops from the first."""
    record = known.record
    if record is None or not record.is_named:
        return {}
    return {
        "parts": {name: _bounds(part.whole.score) for name, part in record.parts.items()},
        "drops": {name: _bounds(drop) for name, drop in record.drops.items()},
    }


def _bounds(score: Estimate) -> list[float]:
    return [score.estimate, score.low, score.high]


def _facts(found: History) -> dict[str, Any]:
    return {
        "name": found.name,
        "description": found.description,
        "champions": [
            {"version": crowning.version, "at": _time(crowning.made_ms), "reason": crowning.reason}
            for crowning in found.crownings
        ],
        "versions": [version_facts(known) for known in found.versions],
    }


def _lines(found: History) -> Iterator[str]:
    yield f"{found.name}: {found.description}".rstrip(": ")
    for known in found.versions:
        yield from _version_lines(known)
    yield "champions, the first one first:"
    yield from (f"  {_crowning(crowning)}" for crowning in found.crownings)


def _version_lines(known: KnownVersion) -> Iterator[str]:
    from img2brain.leaderboard.record_numbers import other_texts

    item = known.registered
    aliases = f" ({', '.join(item.aliases)})" if item.aliases else ""
    yield f"version {item.version}{aliases}, registered {_time(item.made_ms)}"
    yield f"  {_scores(known)}"
    about = other_texts(known.record) if known.record else {}
    about |= {
        "not the champion": known.decided,
        "imported from": known.origin,
        "tags": ", ".join(f"{key}={value}" for key, value in known.tags.items()),
        "description": " / ".join(item.description.splitlines()),
    }
    yield from (f"  {what}: {text}" for what, text in about.items() if text)


def _scores(known: KnownVersion) -> str:
    trial, score = known.trial, known.confirmation
    if trial is None:
        return "nothing is known of its trial"
    metric = trial.record.metrics[trial.record.objective].label
    confirmed = f"{score.estimate:.4f} [{score.low:.4f}, {score.high:.4f}]" if score else "none"
    return f"{trial.record.spec.label}, {metric}: validation {trial.record.score:.4f}, confirmation {confirmed}"


def _crowning(crowning: Crowning) -> str:
    return f"version {crowning.version}, {_time(crowning.made_ms) or 'at an unknown time'}: {crowning.reason}"


def _time(made_ms: int) -> str | None:
    """Return a time in UTC; None where it was not kept."""
    return f"{datetime.fromtimestamp(made_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z" if made_ms else None
