"""What a person keeps of registered models: who was champion when and why, tags, descriptions, and steps back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from img2brain.crown import crown_by_hand
from img2brain.errors import ModelError, RecordError, quoted
from img2brain.home import Home
from img2brain.records import ConfirmationRecord, Estimate
from img2brain.records.origin import LONGEST_TAG, LONGEST_TEXT
from img2brain.tracking._local import open_to_read
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.names import IMPORTED
from img2brain.tracking.reading import TrackedTrial, find_trial
from img2brain.tracking.registry import Crowning, Registered, Registry

OURS = ("img2brain.", "mlflow.")  # what tags of programs begin with
_TAG = re.compile(r"[\w./ -]*[\w.-]")


@dataclass(frozen=True)
class KnownVersion:
    """A version of a registered model, and what is known of it.

    Attributes
    ----------
    registered : Registered
        The version.
    trial : TrackedTrial, optional
        Its trial; None where that is not known.
    crownings : tuple of Crowning
        When it became champion, and why.
    decided : str
        Why it is no champion; empty where it is, or was not judged.
    """

    registered: Registered
    trial: TrackedTrial | None
    crownings: tuple[Crowning, ...] = ()
    decided: str = ""

    @property
    def origin(self) -> str:
        """Where it was imported from; empty where it was not."""
        return self.registered.tags.get(IMPORTED, "")

    @property
    def tags(self) -> dict[str, str]:
        """Its tags for people."""
        return own_tags(self.registered.tags)

    @property
    def record(self) -> ConfirmationRecord | None:
        """What the confirmation rows say of it."""
        return self.trial.confirmation if self.trial else None

    @property
    def confirmation(self) -> Estimate | None:
        """Its score on the confirmation rows."""
        return self.record.confirmed.whole.score if self.record and self.record.confirmed else None


@dataclass(frozen=True)
class History:
    """What became of all versions of a name.

    Attributes
    ----------
    name, description : str
        The registered model.
    versions : tuple of KnownVersion
        The first one first.
    crownings : tuple of Crowning
        Who was champion, the first one first.
    """

    name: str
    description: str
    versions: tuple[KnownVersion, ...]
    crownings: tuple[Crowning, ...]


def own_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that are for people, by name."""
    return {key: value for key, value in sorted(tags.items()) if not key.startswith(OURS)}


def model_history(name: str, home: Home | Path | str = "mlruns") -> History:
    """Tell what became of all versions of a name.

    Parameters
    ----------
    name : str
        The registered model; what follows ``/`` or ``@`` is left out.
    home : Home, Path or str
        The home, or its folder.

    Raises
    ------
    ModelError
        If there is no such model.
    StoreError
        If there is no home in the folder; none is made.
    """
    store = open_to_read(_existing(home))
    registry = Registry(store)
    versions = _versions(registry, name)
    crownings = registry.crownings(versions[0].name)
    known = tuple(known_version(item, store, crownings) for item in versions)
    return History(versions[0].name, registry.description(versions[0].name), known, tuple(crownings))


def known_version(item: Registered, store: TrackingStore, crownings: Iterable[Crowning]) -> KnownVersion:
    """Bring together what is known of a version; of one whose records are spoilt no trial is."""
    try:
        trial = find_trial(store, item.run_id)
    except RecordError:
        trial = None
    own = tuple(crowning for crowning in crownings if crowning.version == item.version)
    return KnownVersion(item, trial, own, Registry.decision(item))


def rollback_model(name: str, home: Home | Path | str = "mlruns", by: str = "") -> str:
    """Crown the champion before the present one, as `crown_model` does by hand; again, the one before that.

    Parameters
    ----------
    name : str
        The registered model.
    home : Home, Path or str
        The home, or its folder.
    by : str
        Who decides.

    Returns
    -------
    str
        What is kept of it.

    Raises
    ------
    ModelError
        If there is no such model, or no champion before is known that is still there.
    """
    store = TrackingStore(_existing(home))
    registry = Registry(store)
    with store.lock:
        versions = {item.version: item for item in _versions(registry, name)}
        found = next(iter(versions.values())).name
        line = succession(item.version for item in registry.crownings(found) if item.version in versions)
        if len(line) < 2:
            raise ModelError(f"The model {found!r} must have had another champion before. None is known that is there.")
        return f"version {line[-2]}: {crown_by_hand(versions[line[-2]], registry, by)}"


def succession(versions: Iterable[str]) -> list[str]:
    """Return the line of champions that leads to the last one; a step back takes the last one off.

    Examples
    --------
    >>> succession(["1", "2", "3", "2"]), succession(["1", "2", "3", "2", "1"])
    (['1', '2'], ['1'])
    """
    line: list[str] = []
    for version in versions:
        if line[-2:-1] == [version]:
            line.pop()
        elif line[-1:] != [version]:
            line.append(version)
    return line


def tag_model(reference: str, key: str, value: str, home: Home | Path | str = "mlruns") -> Registered:
    """Tag a version, and return it; an empty value takes the tag away.

    Raises
    ------
    ModelError
        If there is no such version, or key or value are none that a registry takes.
    """
    if not _TAG.fullmatch(key) or len(key) > LONGEST_TAG or key.startswith(OURS):
        raise ModelError(
            f"The name of a tag must be of letters, digits and '._-/ ', at most {LONGEST_TAG}, and must not begin with "
            f"{' or '.join(OURS)}. Got {quoted(key)}."
        )
    if not value.isprintable() or len(value) > LONGEST_TEXT:
        raise ModelError(f"A tag must be one line of at most {LONGEST_TEXT} printable characters. Got {quoted(value)}.")
    registry = Registry(TrackingStore(_existing(home)))
    item = registry.find(reference)
    registry.tag(item, key, value)
    return registry.find(f"{item.name}/{item.version}")


def describe_model(reference: str, text: str, home: Home | Path | str = "mlruns") -> None:
    """Describe a version, ``NAME/VERSION`` or ``NAME@ALIAS``, or all versions of a ``NAME``, in Markdown.

    Raises
    ------
    ModelError
        If there is no such model, or the text is too long or holds what is not printable.
    """
    if len(text) > LONGEST_TEXT or not all(map(str.isprintable, text.split("\n"))):
        raise ModelError(f"A description must have at most {LONGEST_TEXT} printable characters. Got {quoted(text)}.")
    registry = Registry(TrackingStore(_existing(home)))
    if {"/", "@"} & set(reference.removeprefix("models:/")):
        item = registry.find(reference)
        registry.describe(item.name, item.version, text)
    else:
        registry.describe(_versions(registry, reference)[0].name, "", text)


def _versions(registry: Registry, reference: str) -> list[Registered]:
    """Return the versions of a name, the first one first."""
    name = re.split("[@/]", reference.removeprefix("models:/"))[0]
    found = [item for item in registry.versions() if item.name == name]
    return found[::-1] if found else [registry.find(name)]  # which says what there is


def _existing(home: Home | Path | str) -> Home:
    return home if isinstance(home, Home) else Home.existing(home)
