"""``img2brain model``: list registered models and run them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from img2brain.amounts import counted
from img2brain.cli._options import OpenHome, reads_home
from img2brain.cli._shown import Shown, shows
from img2brain.cli.curation import (
    describe_command,
    history_command,
    rollback_command,
    tag_command,
    user,
    version_facts,
)
from img2brain.cli.moving import export_command, import_command, push_command
from img2brain.cli.ui import ended_by_signals

if TYPE_CHECKING:
    from img2brain.tracking._store import TrackingStore
    from img2brain.tracking.registry import Registered, Registry


@click.group()
def model() -> None:
    """List, show and run registered models."""


for command in (
    export_command,
    import_command,
    push_command,
    history_command,
    rollback_command,
    tag_command,
    describe_command,
):
    model.add_command(command)


@model.command("list")
@reads_home
@shows
def list_command(open_home: OpenHome) -> Shown:
    """List the registered models.

    \b
    Example:
      img2brain model list
    """
    from img2brain.curation import known_version

    registry, store = _registry(open_home)
    versions = registry.versions()
    crownings = {name: registry.crownings(name) for name in {item.name for item in versions}}
    facts = [version_facts(known_version(item, store, crownings[item.name])) for item in versions]
    return Shown(facts, (_line(item, store) for item in versions))


@model.command("show")
@click.argument("name")
@reads_home
@shows
def show_command(name: str, open_home: OpenHome) -> Shown:
    """Show a registered model: NAME, NAME@champion or NAME/VERSION.

    \b
    Example:
      img2brain model show v4-210224@champion
    """
    from img2brain.curation import known_version
    from img2brain.leaderboard.record_numbers import part_texts
    from img2brain.leaderboard.rows import printable

    registry, store = _registry(open_home)
    item = registry.find(name)
    first = f"{item.name} version {item.version} {' '.join(item.aliases)}".rstrip()
    described = [f"  {line}" for line in item.description.splitlines()]
    tags = [f"  {key}: {value}" for key, value in sorted(item.tags.items())]
    known = known_version(item, store, registry.crownings(item.name))
    parts = part_texts(known.record) if known.record else {}
    told = [f"  {part}: {text}" for part, text in parts.items()]
    return Shown(version_facts(known), map(printable, [first, *described, *tags, *told]))


@model.command("crown")
@click.argument("name", metavar="NAME/VERSION")
@reads_home
def crown_command(name: str, open_home: OpenHome) -> None:
    """Make a version the champion by hand, whatever it scored.

    Who did it is kept with the version.

    \b
    Example:
      img2brain model crown v4-210224/2
    """
    from img2brain.registered import crown_model

    click.echo(f"{name}: {crown_model(name, open_home(), user())}")


@model.command("predict")
@click.argument("name")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write: .npy, or .csv or .parquet with the names of images and regions.",
)
@click.option("--roi", "rois", multiple=True, metavar="REGION", help="A region to predict; by default all voxels.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--plugin", "plugins", multiple=True, metavar="FILE.py:NAME", help="A component of others that it needs.")
@click.option("--weights", metavar="FILE", help="Weights of a model that only names them.")
@reads_home
def predict_command(
    name: str,
    images: tuple[Path, ...],
    out: Path,
    rois: tuple[str, ...],
    device: str,
    plugins: tuple[str, ...],
    weights: str | None,
    open_home: OpenHome,
) -> None:
    """Predict the responses to images, one row each.

    A folder stands for its images in the plain order of their names. Says which image the first, the second and the
    last row belong to: in plain order 10.png comes before 2.png.

    NAME may be the folder of a saved model: no home is needed then.

    \b
    Example:
      img2brain model predict v4-210224@champion pictures/*.jpg --out predictions.npy
      img2brain model predict nsd@champion pictures --roi V1 --roi V2 --out predictions.csv
    """
    from img2brain._heap import keep_freed_memory
    from img2brain.datasets._looks import place_of, some_rows
    from img2brain.model._outputs import as_list
    from img2brain.registered import is_saved, load_model, predict_to_file

    keep_freed_memory()
    model = load_model(name, "mlruns" if is_saved(name) else open_home(), plugins, weights=weights)
    n_images, n_voxels = predict_to_file(model, images, out, rois or None, device=device)
    click.echo(f"{out}: {counted(n_images, 'image')}, {counted(n_voxels, 'voxel')}")
    for row in [] if model.takes_features else some_rows(n_images):
        click.echo(f"row {row}: {place_of(as_list(images)[row])}")


@model.command("check")
@click.argument("name")
@click.option("--plugin", "plugins", multiple=True, metavar="FILE.py:NAME", help="A component of others that it needs.")
@click.option("--weights", metavar="FILE", help="Weights of a model that only names them.")
@reads_home
def check_command(name: str, plugins: tuple[str, ...], weights: str | None, open_home: OpenHome) -> None:
    """Check that a model is whole, and predicts as it did.

    It has to make of its golden example what it made of it when it was saved. NAME may be the folder of a saved model:
    no home is needed then.

    \b
    Example:
      img2brain model check v4-210224@champion
    """
    from img2brain.registered import is_saved, load_model

    load_model(name, "mlruns" if is_saved(name) else open_home(), plugins, weights=weights, check=True)
    click.echo(f"{name}: computes what it did when it was saved")


@model.command("serve")
@click.argument("name")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5001, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option("--plugin", "plugins", multiple=True, metavar="FILE.py:NAME", help="A component of others that it needs.")
@reads_home
def serve_command(name: str, host: str, port: int, plugins: tuple[str, ...], open_home: OpenHome) -> None:
    """Answer requests over HTTP with predictions, until Ctrl-C.

    This is MLflow's own server, in this process. Prints the address when it answers. A request is JSON, images as
    base64 text; "params" chooses regions:

    \b
      {"dataframe_split": {"columns": ["image"], "data": [["BASE64"]]}, "params": {"rois": ["V1"]}}

    \b
    Example:
      img2brain model serve v4-210224@champion --port 5001
    """
    from contextlib import suppress

    from img2brain._heap import keep_freed_memory
    from img2brain.serving import serve_model

    keep_freed_memory()
    with ended_by_signals(), suppress(KeyboardInterrupt):
        serve_model(name, open_home(), host, port, click.echo, plugins)


def _registry(open_home: OpenHome) -> tuple[Registry, TrackingStore]:
    from img2brain.tracking._local import open_to_read
    from img2brain.tracking.registry import Registry

    store = open_to_read(open_home())
    return Registry(store), store


def _line(item: Registered, store: TrackingStore) -> str:
    aliases = f" ({', '.join(item.aliases)})" if item.aliases else ""
    return f"{item.name} version {item.version}{aliases}: {_summary(store, item.run_id)}"


def _summary(store: TrackingStore, run_id: str) -> str:
    """Say on one line what a version is, and what it scored."""
    from img2brain.errors import RecordError
    from img2brain.tracking.reading import find_trial

    try:
        trial = find_trial(store, run_id)
    except RecordError as error:
        return str(error)
    if trial is None:
        return "nothing is known of its trial"
    record, confirmed = trial.record, trial.confirmation.confirmed if trial.confirmation else None
    metric = record.metrics[record.objective]
    score = f"{confirmed.whole.score.estimate:.4f}" if confirmed else "none"
    return f"{record.spec.label}, {metric.label}: validation {record.score:.4f}, confirmation {score}"
