"""Models that move: out of a home into one file, and from a file into another home.

A file of others is taken for data alone: all of it is checked before a run or a version is made of it.
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from img2brain import hub, model_file, onnx_file
from img2brain.catalog import LIBRARIES, REGRESSORS
from img2brain.crown import crown
from img2brain.curation import OURS, own_tags
from img2brain.errors import Img2BrainError, ModelError, RecordError, lack_of, quoted
from img2brain.home import Home
from img2brain.model import EncodingModel
from img2brain.model._weights import Kind
from img2brain.model_file import MODEL, ORIGIN, RUN, SUFFIX
from img2brain.onnx_file import SUFFIX as ONNX
from img2brain.records.origin import LONGEST_NAME, OriginRecord
from img2brain.registered import folder_of, is_saved, load_model, load_plugin
from img2brain.spec import NAME_PATTERN
from img2brain.tracking import transfer
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.names import IMPORTED
from img2brain.tracking.reading import find_trial
from img2brain.tracking.registry import Registered, Registry
from img2brain.tracking.transfer import TravelledRun

log = logging.getLogger(__name__)

_MODEL_TAG = "img2brain.model"  # of a version: the digest of its files as they came
_PICTURE = (64, 64, 3)


@dataclass(frozen=True)
class Imported:
    """What became of a model that was imported.

    Attributes
    ----------
    registered : Registered
        The version.
    origin : str
        Where it comes from, for people.
    is_new : bool
        Whether it was not there before.
    is_champion : bool
        Whether it has the alias `champion`.
    reason : str
        Why it has, or has not.
    """

    registered: Registered
    origin: str
    is_new: bool
    is_champion: bool
    reason: str


@dataclass(frozen=True)
class Arrival:
    """What a file of others holds, all of it checked.

    Attributes
    ----------
    folder : Path
        What was unpacked.
    name : str
        What the model is to be called here.
    model, origin, run
        What is in it; no `run` where nothing is known of a trial.
    """

    folder: Path
    name: str
    model: EncodingModel
    origin: OriginRecord
    run: TravelledRun | None


def export_model(
    reference: str, file: Path | str, home: Home | Path | str = "mlruns", *, weights: Kind = "embedded"
) -> Path:
    """Write a model into one file, which any home can import and `load_model` can load.

    Parameters
    ----------
    reference : str
        ``"NAME@champion"``, ``"NAME/VERSION"`` or ``"NAME"``; or the folder of a saved model, which needs no home.
    file : Path or str
        The file to write, ``.img2brain.zip``; it is there whole or not at all, the same bytes for the same model. An
        ``.onnx`` file is for people without this package, see `onnx_file.write_onnx`.
    home : Home, Path or str
        The home, or its folder.
    weights : {"embedded", "reference"}
        Whether the weights of the network are in the file, or only their name and digest, see `EncodingModel.save`.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ModelError
        If there is no such model, its files were changed, or the file cannot be called so, or be without weights.
    StoreError
        If there is no home in the folder; none is made.
    """
    file = Path(file)
    if not file.name.endswith((SUFFIX, ONNX)):
        raise ModelError(f"The file to write must end in {SUFFIX} or {ONNX}. Got {str(file)!r}.")
    if not file.parent.is_dir():
        raise ModelError(f"The folder of the file to write must exist. Got {str(file)!r}.")
    if file.name.endswith(ONNX):
        if weights != "embedded":
            raise ModelError(f"A file without weights must end in {SUFFIX}. Got {str(file)!r}.")
        onnx_file.write_onnx(load_model(reference, home), file)
        return file
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model file"
        folder.mkdir()
        if is_saved(reference):
            _gather_saved(Path(reference), folder)
        else:
            _gather(reference, home if isinstance(home, Home) else Home.existing(home), folder)
        model = EncodingModel.load(folder / MODEL, folder_of(home) / "plugins")
        _tell_of_responses(file, model)
        if weights == "reference":
            shutil.rmtree(folder / MODEL)
            model.save(folder / MODEL, weights)
        model_file.write(folder, file)
    return file


def import_model(
    file: Path | str,
    home: Home | Path | str = "mlruns",
    name: str = "",
    plugins: Sequence[str] = (),
    weights: Path | str | None = None,
) -> Imported:
    """Register the model of a file in a home, without its data.

    Parameters
    ----------
    file : Path or str
        What `export_model` wrote.
    home : Home, Path or str
        The home, or its folder; made where it is not there, once all of the file was checked.
    name : str
        What the model is called here; by default as it was.
    plugins : sequence of str
        Components of others that the model needs, ``PATH.py:NAME`` each; no file holds code. They are kept in the home.
    weights : Path or str, optional
        A checkpoint file, for a model whose weights are not in its file. They are not kept in the home.

    Returns
    -------
    Imported
        A file that was imported before gives the version that is there.

    Raises
    ------
    ModelError, DataError
        If the file holds anything but a whole model of a known format; nothing is written then.

    Notes
    -----
    What its records say is taken as it is. The model becomes champion only where there is none: what others say of it
    takes the crown from no version that is here, but `crown_model` gives it by hand.
    """
    with arriving(Path(file), folder_of(home), name, plugins, weights) as arrival:
        return register(arrival, Home.of(home))


def push_model(reference: str, target: str, home: Home | Path | str = "mlruns", *, private: bool = True) -> str:
    """Write a model as a hub shows it, with its card, and upload it where a repository is named.

    Parameters
    ----------
    reference : str
        As for `export_model`.
    target : str
        ``"hf://OWNER/NAME"``, a repository, made where it is not there; or a folder, which must be empty or not there.
    home : Home, Path or str
        The home, or its folder.
    private : bool
        Whether a repository that is made is for its owner alone.

    Returns
    -------
    str
        Where it is: the address, or the folder.

    Raises
    ------
    ModelError
        If there is no such model, it has no card that a hub takes, or the hub does not take it.
    """
    if hub.is_on_hub(target):
        hub.repository(target)
    else:
        _require_empty(Path(target))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / MODEL
        _gather_files(reference, home, folder)
        hub.check_card(folder)
        if hub.is_on_hub(target):
            return hub.upload(folder, target, private=private)
        shutil.copytree(folder, target, dirs_exist_ok=True)
    return target


def _require_empty(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ModelError(f"The folder to write must be empty or not there. Got {str(folder)!r}.")


def _gather_files(reference: str, home: Home | Path | str, folder: Path) -> None:
    """Copy the files of a model as they were saved."""
    if is_saved(reference):
        EncodingModel.load(Path(reference))
        shutil.copytree(reference, folder)
        return
    registry = Registry(TrackingStore(home if isinstance(home, Home) else Home.existing(home)))
    with registry.files(registry.find(reference)) as saved:
        shutil.copytree(saved, folder)


@contextmanager
def arriving(
    file: Path, home: Path, name: str = "", plugins: Sequence[str] = (), weights: Path | str | None = None
) -> Iterator[Arrival]:
    """Hand out what a file of others holds, after all checks, for `register`.

    Parameters
    ----------
    file, name, plugins, weights
        As for `import_model`.
    home : Path
        The folder of the home, which need not be there; components of others may be kept in it.
    """
    for plugin in plugins:
        load_plugin(plugin)
    with model_file.unpacked(file) as folder:
        yield _checked(folder, home / "plugins", name, weights)


def register(arrival: Arrival, home: Home) -> Imported:
    """Register what has arrived in a home, unless it is there, and judge whether it is the champion."""
    store = TrackingStore(home)
    registry = Registry(store)
    with home.lock("import"):
        known = _known(arrival, registry, store)
        registered = known or _register(arrival, registry, store, home)
        with store.lock:
            is_champion, reason = crown(registered, registry, store)
    found = registry.find(f"{registered.name}/{registered.version}")
    return Imported(found, arrival.origin.label, known is None, is_champion, reason)


def _tell_of_responses(file: Path, model: EncodingModel) -> None:
    """Say where a model is made of the responses themselves: whoever has the file can read them."""
    if model.regressor.keeps_rows:
        log.warning("%s holds the responses that its %s was fitted to.", file, model.spec.regressor)


def _gather_saved(saved: Path, folder: Path) -> None:
    model = EncodingModel.load(saved)
    shutil.copytree(saved, folder / MODEL)
    _say(folder, OriginRecord(name=str(model.about.get("dataset", "model")), img2brain=version("img2brain")))


def _gather(reference: str, home: Home, folder: Path) -> None:
    """Bring together a registered model, where it comes from, and what is known of its trial."""
    store = TrackingStore(home)
    registry = Registry(store)
    item = registry.find(reference)
    with registry.files(item) as saved:
        shutil.copytree(saved, folder / MODEL)
    _say(
        folder,
        OriginRecord(
            img2brain=version("img2brain"),
            home=home.id,
            name=item.name,
            version=item.version,
            tags=own_tags(item.tags),
            description=item.description,
        ),
    )
    trial = find_trial(store, item.run_id)
    if trial is not None:
        transfer.write_run(store, trial, home.id, folder / RUN)


def _say(folder: Path, origin: OriginRecord) -> None:
    (folder / ORIGIN).write_text(origin.to_json(), encoding="utf-8")


def _checked(folder: Path, plugins: Path, name: str, weights: Path | str | None) -> Arrival:
    """Read all that a file of others holds, and let its model predict once."""
    origin = OriginRecord.from_json((folder / ORIGIN).read_text(encoding="utf-8", errors="replace"), ORIGIN)
    if reserved := next((key for key in origin.tags if key.startswith(OURS)), ""):
        raise RecordError(f"The tags of {ORIGIN} must be for people. Got {reserved!r}.")
    run = transfer.read_run(folder / RUN) if (folder / RUN).is_dir() else None
    with _whole_model():
        model = EncodingModel.load(folder / MODEL, plugins, weights)
        _require_prediction(model)
    if run is not None and (model.spec, _n_voxels(model)) != (run.record.spec, run.record.dataset.n_voxels):
        raise ModelError(
            f"The model must be of the trial whose records it comes with, {run.record.spec.label}. It is not."
        )
    return Arrival(folder, _plain_name(name or origin.name), model, origin, run)


def _plain_name(name: str) -> str:
    if not re.fullmatch(NAME_PATTERN, name) or len(name) > LONGEST_NAME:
        raise ModelError(
            f"The name of a model must be of letters, digits, '.', '_' and '-', at most {LONGEST_NAME}. "
            f"Got {quoted(name)}."
        )
    return name


def _n_voxels(model: EncodingModel) -> int:
    return int(model.about["n_voxels"])


def _require_prediction(model: EncodingModel) -> None:
    """Refuse a model that does not predict as many voxels as it says."""
    nothing = np.zeros((1, len(model.axes.axes)) if model.takes_features else _PICTURE, np.float32)
    found = model.predict(nothing)
    if found.shape != (1, _n_voxels(model)):
        raise ModelError(f"The model must predict {_n_voxels(model)} voxels, as it says. Got {found.shape[1]}.")


@contextmanager
def _whole_model() -> Iterator[None]:
    """Tell on one line whatever the files of others make go wrong; a lack of memory is none of their faults."""
    try:
        yield
    except Img2BrainError:
        raise
    except Exception as error:
        if lack_of(error):
            raise
        told = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ModelError(f"The file must hold a whole model. Got {told}.") from error


def _known(arrival: Arrival, registry: Registry, store: TrackingStore) -> Registered | None:
    """Return the version that is there already of the same trial, or, where none is known, of the same files."""
    digest = model_file.digest_of(arrival.folder / MODEL)
    run_id = transfer.find_run(store, arrival.run.record) if arrival.run else ""
    for item in registry.versions(arrival.name):
        if run_id and item.run_id == run_id:
            _require_same_files(item, registry, digest)
            return item
        if not run_id and item.tags.get(_MODEL_TAG) == digest:
            return item
    return None


def _require_same_files(item: Registered, registry: Registry, digest: str) -> None:
    with registry.files(item) as folder:
        if model_file.digest_of(folder) != digest:
            raise ModelError(
                f"The files of {item.name}/{item.version}, which is of the same trial, must be those of this model. "
                "They are not."
            )


def _register(arrival: Arrival, registry: Registry, store: TrackingStore, home: Home) -> Registered:
    model, origin = arrival.model, arrival.origin.label
    run_id = _run_of(arrival, store, home)
    _keep_plugins(model, home)
    return registry.register(
        arrival.name,
        arrival.folder / MODEL,
        run_id,
        _n_voxels(model),
        {**arrival.origin.tags, IMPORTED: origin, _MODEL_TAG: model_file.digest_of(arrival.folder / MODEL)},
        n_features=len(model.axes.axes) if model.takes_features else None,
        dtype=model.dtype,
        description=arrival.origin.description,
    )


def _run_of(arrival: Arrival, store: TrackingStore, home: Home) -> str:
    """Return the run of the model's trial, made where it is not there."""
    if arrival.run is None:
        return transfer.log_nothing(store, arrival.name, arrival.origin.label)
    known = transfer.find_run(store, arrival.run.record)
    return known or transfer.log_run(store, arrival.run, arrival.origin.label, home.id)


def _keep_plugins(model: EncodingModel, home: Home) -> None:
    """Keep the files of components of others in the home, where its models find them again."""
    for kind, catalog in {"library": LIBRARIES, "regressor": REGRESSORS}.items():
        if kind in model.plugins and (plugin := catalog.plugin(model.plugins[kind]["name"])):
            plugin.keep(home.plugins)
