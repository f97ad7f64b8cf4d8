"""``img2brain data``: check, show and convert datasets, list their layouts, fetch public ones, write samples."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from img2brain.amounts import counted, size_text
from img2brain.cli._options import names_home
from img2brain.cli._shown import Shown, shows

if TYPE_CHECKING:
    from img2brain.datasets._looks import Report


@click.group()
def data() -> None:
    """Check, show, convert, fetch or sample data, or list layouts."""


_ASKED = (
    click.argument("path", metavar="DIR", type=click.Path(path_type=Path)),
    click.option("--layout", metavar="NAME", help="A layout, or FILE.py:NAME; by default the one that recognises it."),
    click.option("--subject", help="Whose responses, where there are several subjects."),
    click.option("--normalise", help="session, run or none: z-score each voxel within each."),
    click.option("--repeats", help="mean or single: average an image's trials, or have a row for each."),
    click.option("--voxels", help='Those to keep, such as "nc > 0.3 and (V1 or V2)".'),
    click.option("--images", type=click.Path(path_type=Path), help="Where the images are, if apart."),
    click.option("--responses", help="Which responses, where there are several."),
)


def _asks(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the folder of a dataset, and the options that stand for keys of [dataset]."""
    return functools.reduce(lambda made, option: option(made), reversed(_ASKED), command)


def _asks_after_out(command: Callable[..., Any]) -> Callable[..., Any]:
    """Do so, with a folder to write after that of the dataset."""
    return _asks(click.argument("out", metavar="OUT", type=click.Path(path_type=Path))(command))


@data.command("check")
@_asks
@names_home
@shows
def check_command(path: Path, layout: str | None, home: Path, tracking_uri: str | None, **asked: Any) -> Shown:
    """Check every image and response of a dataset.

    Prints what it holds, then every problem, one line each. Exit code 2 if there is any. Where there is a home, no
    other data set in it may have the same name. The options from --subject on stand for keys of [dataset].

    \b
    Example:
      img2brain data check my-recordings
      img2brain data check my-lab --subject s01 --normalise session --voxels "reliability > 0.1"
      img2brain data check my-table --layout my_layout.py:Table
    """
    from img2brain.datasets._layouts import check

    report = check(path, layout, **asked)
    problems = [(problem.severity, " ".join(problem.message.split())) for problem in report.problems]
    if taken := _name_of_others(report, path, home, tracking_uri) if report.digest else "":
        problems.append(("error", taken))
    facts = _facts(report) | {"problems": [{"severity": severity, "message": told} for severity, told in problems]}
    told = [f"{severity}: {message}" for severity, message in problems] or ["no problems"]
    return Shown(facts, [*_lines(report), *told], exit_code=2 if problems else 0)


def _facts(report: Report) -> dict[str, Any]:
    """Return what a dataset holds, as plain data."""
    told = ("layout", "name", "images", "test_images", "voxels", "unit", "subject", "digest", "preparation", "rows",
            "splits", "columns")  # fmt: skip
    return {key: getattr(report, key) for key in told} | {"tied": str(report.ties) if report.ties else None}


def _lines(report: Report) -> Iterator[str]:
    """Tell what a dataset holds, a line for each thing."""
    yield f"layout: {report.layout or '-'}"
    yield f"images: {report.images} training, {report.test_images} test"
    yield f"voxels: {report.voxels}"
    yield f"unit: {report.unit or '-'}"
    yield f"subject: {report.subject or '-'}"
    yield f"digest: {report.digest or '-'}"
    yield from (f"{name}: {done}" for name, done in report.preparation.items())
    yield from report.rows
    if report.ties:
        yield f"tied: {report.ties}"
    told = {"splits": report.splits, "columns": report.columns}
    yield from (f"{what}: {', '.join(names)}" for what, names in told.items() if names)


def _name_of_others(report: Report, path: Path, folder: Path, tracking_uri: str | None) -> str:
    """Say whose the name of a dataset is in the home, where it is that of other data."""
    from img2brain.errors import DataError, StoreError
    from img2brain.home import Home
    from img2brain.tracking._local import open_to_read
    from img2brain.tracking.own_name import origin_of, require_own_name

    try:
        home = Home.existing(folder, tracking_uri)
    except StoreError:  # there is none: every name is free
        return ""
    try:
        require_own_name(open_to_read(home), report.name, str(report.digest), report.source, origin_of(path))
    except DataError as error:
        return str(error)
    return ""


@data.command("report")
@_asks
@click.option("--out", type=click.Path(path_type=Path), default="report.html", show_default=True, help="The page.")
def report_command(path: Path, out: Path, layout: str | None, **asked: Any) -> None:
    """Show a dataset on one page, with what is suspicious.

    The page shows rows, pictures and responses. It opens from disk and asks nothing of the network; it holds small
    copies of some images. Exit code 2 if there are errors. The options from --subject on stand for keys of [dataset].

    \b
    Example:
      img2brain data report my-recordings --out report.html
    """
    from img2brain.data_report.report import report_data

    page = report_data(path, out, layout, **asked)
    click.echo(f"wrote {out}: {page.counted or 'nothing suspicious'}")
    if page.n_errors:
        sys.exit(2)


@data.command("convert")
@_asks_after_out
@click.option("--link", is_flag=True, help="Link image files in place of copying them, where they are on one disk.")
def convert_command(path: Path, out: Path, layout: str | None, link: bool, **asked: Any) -> None:
    """Write a dataset of any layout as a plain folder.

    The folder, OUT, opens to the same numbers bit for bit. OUT is there whole or not at all. What the options from
    --subject on ask for is done once and for all, and said in its dataset.toml. Nothing needs this: all layouts are
    read where they are.

    \b
    Example:
      img2brain data convert my-lab my-recordings --subject s01 --normalise session
    """
    from img2brain.datasets._convert import convert_dataset
    from img2brain.datasets.folder import FolderDataset

    made = FolderDataset.open(convert_dataset(path, out, layout, link=link, **asked))
    images = f"{made.n_training} training and {counted(len(made.test_images), 'test image')}"
    click.echo(f"wrote {images} of {counted(made.n_voxels, 'voxel')} to {out}")


@data.command("fetch")
@click.argument("name", required=False)
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--accept-licence", is_flag=True, help="Agree to the licence of the data.")
@shows
def fetch_command(name: str | None, folder: Path | None, accept_licence: bool) -> Shown:
    """Download public data, check and unpack them.

    Without a NAME it lists what there is. It goes on where it was stopped, even killed: run the same command again.
    NAME may be a .toml file that describes another archive. For data that their owners hand out it says where to ask.

    \b
    Example:
      img2brain data fetch
      img2brain data fetch img2brain-2023 img2brain-2023 --accept-licence
    """
    from img2brain.datasets._layouts import find_layout
    from img2brain.errors import DataError, SpecError
    from img2brain.fetching.archives import find_archive
    from img2brain.fetching.fetch import archives, fetch_dataset

    if name is None:
        return Shown(archives(), _archive_lines(archives()))
    if folder is None:
        find_archive(name)
        raise SpecError("'data fetch' must be told the folder to write, after the name.")
    fetch_dataset(name, folder, accept_licence=accept_licence)
    facts = {"folder": str(folder), "citation": find_archive(name).citation, "layout": None}
    try:
        facts["layout"] = find_layout(folder)
    except DataError as error:
        return Shown(facts, [f"wrote {folder}", str(error)])
    lines = [f"wrote {folder}, of the layout {facts['layout']}"]
    return Shown(facts, lines + ([f"cite: {facts['citation']}"] if facts["citation"] else []))


def _archive_lines(found: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    for name, told in found.items():
        if "where" in told:
            yield f"{name}: {told['where']}"
            continue
        size = size_text(told["bytes"]) if told["bytes"] else "size told by its record"
        licence = told["licence"] or "licence told by its record"
        yield f"{name}: {told['title']}; layout {told['layout']}, {size}, {licence} ({told['page']})"


@data.command("layouts")
@shows
def layouts_command() -> Shown:
    """List the layouts of datasets, and what each needs.

    \b
    Example:
      img2brain data layouts
    """
    from img2brain.datasets._layouts import layouts

    found = layouts()
    return Shown(found, [f"{name}: {needs}" for name, needs in found.items()])


@data.command("sample")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--images", "n_images", default=600, show_default=True, help="Images; every tenth is a test image.")
@click.option("--voxels", "n_voxels", default=500, show_default=True, help="Simulated voxels.")
@click.option("--seed", default=0, show_default=True, help="Another seed gives other images and voxels.")
def sample_command(folder: Path, n_images: int, n_voxels: int, seed: int) -> None:
    """Write sample data.

    They are generated pictures, and simulated responses to them. The same numbers always give the same files; the
    pictures do not depend on the number of voxels.

    \b
    Example:
      img2brain data sample sample-data --images 600 --voxels 500
    """
    from img2brain.datasets._sample import write_sample

    write_sample(folder, n_images=n_images, n_voxels=n_voxels, seed=seed)
    click.echo(f"wrote {counted(n_images, 'image')} and {counted(n_voxels, 'voxel')} to {folder}")
