"""The registry: models under a dataset's name, the best of them under the alias `champion`."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from img2brain import plain, sealed
from img2brain._quiet import ignored
from img2brain.errors import ModelError, did_you_mean, quoted
from img2brain.tracking._store import TrackingStore, answering, look_and_add

CHAMPION = "champion"
_RUN, _CROWNED, DIGEST = "img2brain.run", "img2brain.crowned", "img2brain.digest"
_DECIDED = "img2brain.decided"
_HISTORY = "img2brain.crowned."  # of a name: each crowning under its time, so that none overwrites another
_LONG = 100  # characters of a name that is shown as it is
_FLOAT32 = np.dtype(np.float32)
_REQUIREMENTS = ("img2brain", "mlflow", "torch", "torchvision", "scikit-learn", "numpy", "pillow", "safetensors")


@dataclass(frozen=True)
class Registered:
    """A registered model version.

    Attributes
    ----------
    name : str
        The dataset's name.
    version : str
        Of the model.
    aliases : tuple of str
        Such as ``("champion",)``.
    run_id : str
        The run of the trial that it comes from: what is known of it is in the records of that run.
    tags : mapping of str to str
        What MLflow's pages show of it.
    description : str
        In Markdown.
    made_ms : int
        When it was registered, in milliseconds since 1970.
    """

    name: str
    version: str
    aliases: tuple[str, ...]
    run_id: str
    tags: Mapping[str, str]
    description: str = ""
    made_ms: int = 0


@dataclass(frozen=True)
class Crowning:
    """One hand-over of the alias `champion`.

    Attributes
    ----------
    version : str
        Who became champion.
    reason : str
        Why.
    made_ms : int
        When, in milliseconds since 1970; 0 where that was not kept.
    """

    version: str
    reason: str
    made_ms: int = 0


class Registry:
    """Registers models and finds them again.

    Parameters
    ----------
    store : TrackingStore
        Where they are kept.
    """

    def __init__(self, store: TrackingStore) -> None:
        self._store = store

    def versions(self, name: str | None = None) -> list[Registered]:
        """Return the registered versions, the newest first, of one name or of all."""
        with answering(self._store.uri):
            models = {model.name: model for model in self._store.client.search_registered_models(max_results=1000)}
            found = self._store.client.search_model_versions(f"name='{name}'" if name else "", max_results=10_000)
            items = [_as_registered(item, models.get(item.name)) for item in found]
        return sorted(items, key=lambda item: (item.name, -int(item.version)))

    def champion(self, name: str) -> Registered | None:
        """Return the version under the alias `champion`, or None."""
        return next((item for item in self.versions(name) if CHAMPION in item.aliases), None)

    def find(self, reference: str) -> Registered:
        """Return the version that ``NAME``, ``NAME@ALIAS`` or ``NAME/VERSION`` names; a bare name is its champion.

        Raises
        ------
        ModelError
            If there is none.
        """
        text = reference.removeprefix("models:/")
        name, _, alias = text.partition("@")
        name, _, number = name.partition("/")
        versions = [item for item in self.versions() if item.name == name]
        if not versions:
            known = sorted({item.name for item in self.versions()})
            raise ModelError(f"No model is registered as {quoted(name)}. {did_you_mean(name, known)}")
        alias = alias or ("" if number else CHAMPION)
        for item in versions:
            if item.version == number or alias in item.aliases:
                return item
        shown = number if number.isprintable() and len(number) <= _LONG else quoted(number)
        wanted = f"version {shown}" if number else f"alias {quoted(alias)}"
        raise ModelError(
            f"The model {name!r} has no {wanted}. It has version {', '.join(v.version for v in versions)}."
        )

    @contextmanager
    def files(self, item: Registered) -> Iterator[Path]:
        """Hand out the folder of a version's encoding model, after a check of all that lies beside it.

        Raises
        ------
        ModelError
            If a file was changed, is not there or was not there before; a version that was registered before folders
            were sealed is handed out as it is.
        """
        with answering(self._store.uri):
            where = self._store.client.get_model_version_download_uri(item.name, item.version)
            with self._store.folder(where) as folder:
                if item.tags.get(DIGEST):
                    sealed.check(folder, item.tags[DIGEST])
                found = next(iter(sorted(folder.rglob("model.json"))), None)
                if found is None:
                    raise ModelError(f"The model {item.name!r} version {item.version} is not of img2brain.")
                yield found.parent

    def register(
        self,
        name: str,
        folder: Path,
        run_id: str,
        n_voxels: int,
        tags: Mapping[str, str],
        n_features: int | None = None,
        dtype: np.dtype[Any] = _FLOAT32,
        description: str = "",
    ) -> Registered:
        """Log a saved model under a run and register it; a run that is registered already is not registered twice.

        A model takes images, or so many features, and gives numbers of one type.
        """
        for item in self.versions(name):
            if item.run_id == run_id:
                return item
        with answering(self._store.uri):
            logged, digest = _log(self._store, folder, run_id, _signature(n_voxels, n_features, dtype))
            with self._store.lock:
                self._ensure(name)
            made = self._store.client.create_model_version(
                name,
                logged.artifact_location,
                run_id,
                {_RUN: run_id, DIGEST: digest, **tags},
                description=description or None,
                model_id=logged.model_id,
            )
            return _as_registered(made, None)

    def crown(self, item: Registered, reason: str) -> None:
        """Give a version the alias `champion`, and keep why, among the crownings of its name too.

        The alias alone says who is champion: where it is not reached, the champion is whoever it was.
        """
        former = self.champion(item.name)
        with answering(self._store.uri):
            client = self._store.client
            client.set_model_version_tag(item.name, item.version, _CROWNED, reason)
            client.set_registered_model_alias(item.name, CHAMPION, item.version)
            self._remember(item, reason, former)
            if former is not None and former.version != item.version and _CROWNED in former.tags:
                client.delete_model_version_tag(former.name, former.version, _CROWNED)
            if _DECIDED in client.get_model_version(item.name, item.version).tags:
                client.delete_model_version_tag(item.name, item.version, _DECIDED)

    def crownings(self, name: str) -> list[Crowning]:
        """Return who was champion of a name, the first one first; the last one is the champion.

        Of those before this was kept, the last one alone is known.
        """
        with answering(self._store.uri):
            found = list(self._history(name).values())
        champion = self.champion(name)
        if champion is not None and (not found or found[-1].version != champion.version):
            found.append(Crowning(champion.version, champion.tags.get(_CROWNED, "")))
        return found

    def description(self, name: str) -> str:
        """Return the description of a name."""
        with answering(self._store.uri):
            found = self._store.client.search_registered_models(max_results=1000)
            return next((item.description or "" for item in found if item.name == name), "")

    def describe(self, name: str, version: str, text: str) -> None:
        """Describe a version, or, without one, all versions of a name."""
        with answering(self._store.uri):
            if version:
                self._store.client.update_model_version(name, version, text)
            else:
                self._store.client.update_registered_model(name, text)

    def tag(self, item: Registered, key: str, value: str) -> None:
        """Tag a version; without a value, take the tag away."""
        with answering(self._store.uri):
            if value:
                self._store.client.set_model_version_tag(item.name, item.version, key, value)
            elif key in item.tags:
                self._store.client.delete_model_version_tag(item.name, item.version, key)

    def decided(self, item: Registered) -> str:
        """Return why a version is no champion; nothing where that is still to be judged."""
        with answering(self._store.uri):
            return str(self._store.client.get_model_version(item.name, item.version).tags.get(_DECIDED, ""))

    @staticmethod
    def decision(item: Registered) -> str:
        """Return why a version was no champion when it was looked up; nothing where it is, or was not judged."""
        return item.tags.get(_DECIDED, "")

    def decide(self, item: Registered, reason: str) -> None:
        """Keep why a version is no champion."""
        with answering(self._store.uri):
            self._store.client.set_model_version_tag(item.name, item.version, _DECIDED, reason)

    def _history(self, name: str) -> dict[int, Crowning]:
        """Return what was kept of crownings, by the time of their tags, the first one first."""
        models = self._store.client.search_registered_models(max_results=1000)
        tags: Mapping[str, str] = next((item.tags or {} for item in models if item.name == name), {})
        kept = {key.removeprefix(_HISTORY): text for key, text in tags.items() if key.startswith(_HISTORY)}
        read = {int(time_ns): _crowning(text) for time_ns, text in kept.items() if time_ns.isdecimal()}
        return {time_ns: item for time_ns, item in sorted(read.items()) if item is not None}

    def _remember(self, item: Registered, reason: str, former: Registered | None) -> None:
        """Keep a crowning, and first that of the champion before, where a version without this memory crowned it."""
        known = self._history(item.name)
        last = next(reversed(known.values()), None)
        now = max(time.time_ns(), *(time_ns + 1 for time_ns in known), 0)
        made = [Crowning(item.version, reason, now // 1_000_000)]
        if former is not None and former.version != item.version and (last is None or last.version != former.version):
            made.insert(0, Crowning(former.version, former.tags.get(_CROWNED, "")))
        for place, crowning in enumerate(made):
            text = json.dumps(asdict(crowning))
            self._store.client.set_registered_model_tag(item.name, f"{_HISTORY}{now + place:020d}", text)

    def _ensure(self, name: str) -> None:
        look_and_add(lambda: self._add_name(name))

    def _add_name(self, name: str) -> None:
        known = self._store.client.search_registered_models(f"name='{name}'")
        if not any(item.name == name for item in known):
            self._store.client.create_registered_model(
                name, description=f"Encoding models of {name}: images to responses."
            )


def _crowning(text: str) -> Crowning | None:
    """Read what was kept of a crowning; others may have written something else."""
    try:
        found = plain.of_json(text)
        return Crowning(str(found["version"]), str(found["reason"]), int(found["made_ms"]))
    except (ValueError, LookupError, TypeError):
        return None


def _log(store: TrackingStore, folder: Path, run_id: str, signature: Any) -> tuple[Any, str]:
    """Log a saved model under a run, and return what MLflow knows of it, and the digest of its folder.

    `Model.log` would do all of this, with the client of the URI that MLflow itself uses in this process.
    """
    from mlflow.entities import LoggedModelOutput

    run = store.client.get_run(run_id)
    made = _begun(store, run) or store.client.create_logged_model(
        run.info.experiment_id, "encoding-model", run_id, params=run.data.params, tags={_RUN: run_id}
    )
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "model"
        _save(whole, folder, made, signature)
        (whole / sealed.NO_CACHE).touch()
        digest = sealed.seal(whole)
        store.client.log_model_artifacts(made.model_id, str(whole))
    if made.model_id not in [item.model_id for item in run.outputs.model_outputs]:
        store.client.log_outputs(run_id, [LoggedModelOutput(made.model_id, step=0)])
    return store.client.finalize_logged_model(made.model_id, "READY"), digest


def _begun(store: TrackingStore, run: Any) -> Any:
    """Return the model that was begun under a run and never finished; None where no publication was cut off.

    Its files are written again, under the same names: what has half of them would take room for ever.
    """
    own = f"source_run_id = '{run.info.run_id}'"
    found = store.client.search_logged_models([run.info.experiment_id], own)
    left = [item for item in found if str(item.status) == "PENDING"]
    return next((item for item in left if item.tags.get(_RUN) == run.info.run_id), None)


def _signature(n_voxels: int, n_features: int | None, dtype: np.dtype[Any]) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    images = Schema([ColSpec("string", "image")])
    return ModelSignature(
        inputs=images if n_features is None else Schema([TensorSpec(np.dtype(np.float64), (-1, n_features))]),
        outputs=Schema([TensorSpec(dtype, (-1, n_voxels))]),
        params=ParamSchema([ParamSpec("rois", "string", [], (-1,))]),  # none: all voxels
    )


def _save(whole: Path, folder: Path, made: Any, signature: Any) -> None:
    """Write a model as MLflow loads it: code beside the model's files; no pickle is written."""
    from mlflow import pyfunc
    from mlflow.models import Model

    with ignored():  # advice to add an example of the input: the signature is given
        pyfunc.save_model(
            path=str(whole),
            mlflow_model=Model(artifact_path=made.artifact_location, run_id=made.source_run_id, model_id=made.model_id),
            python_model=str(Path(__file__).parents[1] / "flavor.py"),
            artifacts={"model": str(folder)},
            signature=signature,
            pip_requirements=[f"{package}=={version(package)}" for package in _REQUIREMENTS],
        )


def _as_registered(item: Any, model: Any) -> Registered:
    aliases = getattr(model, "aliases", {}) or {}
    own = tuple(alias for alias, number in aliases.items() if str(number) == str(item.version))
    aliased = own or tuple(item.aliases or ())
    # Where a process ended beside the alias, a tag may be left that says otherwise than the alias.
    untrue = _DECIDED if CHAMPION in aliased else _CROWNED
    tags = {key: value for key, value in (item.tags or {}).items() if key != untrue}
    run_id = item.run_id or tags.get(_RUN, "")
    return Registered(
        item.name, str(item.version), aliased, run_id, tags, item.description or "", int(item.creation_timestamp or 0)
    )
