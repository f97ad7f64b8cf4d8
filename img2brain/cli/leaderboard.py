"""``img2brain leaderboard``: rank trials."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from img2brain.amounts import counted
from img2brain.cli import bundles
from img2brain.cli._options import OpenHome, reads_home, writes_home
from img2brain.cli._shown import Shown, shows, terminal_width

if TYPE_CHECKING:
    from img2brain.home import Home
    from img2brain.leaderboard.collect import BestRows
    from img2brain.leaderboard.networks import By
    from img2brain.leaderboard.rows import Row

_NOTHING = "There are no finished trials yet."
_dataset_option = click.option("--dataset", help="One dataset's trials only, by its name.")


@click.group()
def leaderboard() -> None:
    """Rank the trials of each dataset."""


@leaderboard.command("show")
@_dataset_option
@click.option("--part", help="Rank the published models by this part of the confirmation rows.")
@click.option("--members", is_flag=True, help="The mean over members, of the studies that have several.")
@click.option("--most", default=20, show_default=True, type=click.IntRange(min=1), help="Rows of each board.")
@click.option("--by", type=click.Choice(["backbone", "layer", "regressor"]), help="Only the best trial of each.")
@reads_home
@shows
def show_command(
    dataset: str | None, part: str | None, members: bool, most: int, by: By | None, open_home: OpenHome
) -> Shown:
    """Print the ranked trials.

    There is one board for each dataset, split and metric.

    \b
    Example:
      img2brain leaderboard show --dataset v4-210224
      img2brain leaderboard show --by regressor
    """
    from img2brain.leaderboard.collect import leading
    from img2brain.leaderboard.networks import best_of_each
    from img2brain.leaderboard.site.api import row_lines

    if members and (part or by):
        raise click.UsageError(
            "--members shows means, of the part of the confirmation rows that ranks: it stands alone."
        )
    if members:
        return _means(open_home(), dataset, most)
    found = leading(open_home(), dataset, most, by)
    found = found if part is None else _by_part(found, part)
    groups = [rows for rows, _ in found]
    if by is not None:
        shown = [best_of_each(group, by) for group in groups]
        lines = [line for item, best in zip(found, shown, strict=True) for line in _networks(item, best, by, most)]
        return Shown([line for best in shown for line in row_lines([best])[:most]], lines or [_NOTHING])

    def facts() -> list[dict[str, Any]]:
        return row_lines(groups, most)

    return Shown(facts, (line for item in found for line in _lines(item, most)) if found else [_NOTHING])


@leaderboard.command("build")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@_dataset_option
@click.option("--no-responses", is_flag=True, help="Leave measured responses out of the pages of published models.")
@reads_home
def build_command(folder: Path, dataset: str | None, no_responses: bool, open_home: OpenHome) -> None:
    """Write the leaderboard as a site.

    It opens from disk, with its data as JSON and CSV.

    \b
    Example:
      img2brain leaderboard build board
    """
    from img2brain.leaderboard.collect import collect
    from img2brain.leaderboard.site.build import build

    built = datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
    paths = build(collect(open_home(), dataset, whole=True), folder, built=built, with_responses=not no_responses)
    _tell(paths)


@leaderboard.command("reference")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="A folder to build the page in.")
def reference_command(out: Path | None) -> None:
    """Show the predecessor's published results.

    With each stands what is known of it.

    \b
    Example:
      img2brain leaderboard reference
    """
    from img2brain.leaderboard.site.build import build
    from img2brain.leaderboard.table import as_text, ranked
    from img2brain.predecessor.board import reference_rows
    from img2brain.predecessor.entries import CAVEAT

    rows = reference_rows()
    click.echo(as_text(ranked(rows)))
    click.echo(f"note: {CAVEAT}")
    for row in rows:
        if row.note != CAVEAT:
            spec = row.trial.spec
            click.echo(f"note: {spec.backbone} {spec.space}: {row.note.removeprefix(CAVEAT).lstrip('; ')}")
    if out is not None:
        _tell(build(rows, out, title="The predecessor's results"))


@leaderboard.command("import-predecessor")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@writes_home
def import_command(folder: Path, open_home: OpenHome) -> None:
    """Read the predecessor's CSV files.

    They become rows with the scores of every voxel.

    \b
    Example:
      img2brain leaderboard import-predecessor published
    """
    from img2brain.predecessor.board import import_predecessor
    from img2brain.predecessor.entries import DATASET

    published = import_predecessor(folder, open_home())
    for item in published:
        if item.note:
            click.echo(f"{item.entry.backbone} {item.entry.layer} {item.entry.regressor}: {item.note}")
    click.echo(f"{len(published)} results: img2brain leaderboard show --dataset {DATASET} --most {len(published)}")


def _means(home: Home, dataset: str | None, most: int) -> Shown:
    """Show the boards of means over members."""
    from img2brain.leaderboard.collect import collect
    from img2brain.leaderboard.means import mean_boards, mean_lines, text_lines
    from img2brain.leaderboard.rows import printable
    from img2brain.leaderboard.site.api import known

    found = [board for board in mean_boards(collect(home)) if dataset in (None, *board.datasets.values())]
    facts = [known(line) for board in found for line in mean_lines(board)[:most]]
    lines = [printable(line) for board in found for line in (*text_lines(board, most), "")]
    return Shown(facts, lines or ["No study here has several members."])


def _by_part(found: list[BestRows], part: str) -> list[BestRows]:
    """Keep the boards whose confirmation rows have a part of this name, as it ranks the published models."""
    from img2brain.errors import SpecError, did_you_mean
    from img2brain.leaderboard.published import by_part, part_names

    known = [part_names(item.rows) for item in found]
    if not any(part in names for names in known):
        told = did_you_mean(part, {name for names in known for name in names})
        raise SpecError(f"No board has a part {part!r} of the confirmation rows. {told}")
    having = [item for item, names in zip(found, known, strict=True) if part in names]
    return [item._replace(rows=by_part(item.rows, part)) for item in having]


for command in bundles.COMMANDS:
    leaderboard.add_command(command)


def _tell(paths: list[Path]) -> None:
    """Name the first page of a site that was written."""
    click.echo(f"{paths[0]} and {counted(len(paths) - 1, 'other file')}")


def _lines(found: BestRows, most: int) -> Iterator[str]:
    """Tell of a board: its published models, and its best trials."""
    from img2brain.leaderboard.rows import printable
    from img2brain.leaderboard.table import as_text, ranked

    board, n_trials = found

    table = ranked(board, most)
    yield board[0].board
    yield from _confirmed(board)
    yield as_text(table, terminal_width())
    yield from (printable(f"note: {note}") for note in dict.fromkeys(row.note for row in board if row.note))
    yield f"{counted(n_trials, 'trial')}\n"


def _networks(found: BestRows, best: list[Row], by: By, most: int) -> Iterator[str]:
    """Tell of the best trial of each network, layer or regressor, and how the networks' scores run over layers."""
    from img2brain.leaderboard.networks import layer_scores, network_of
    from img2brain.leaderboard.rows import printable
    from img2brain.leaderboard.table import as_text, ranked
    from img2brain.result import score_text

    board, n_trials = found
    yield board[0].board
    yield as_text(ranked(best).head(most), terminal_width())
    for row in best[:most] if by == "backbone" else []:
        spec = row.trial.spec
        layers = layer_scores(row, (other for other in board if network_of(other) == network_of(row)))
        told = ", ".join(f"{name} {score_text(score)}" for name, score, _ in layers)
        yield printable(f"layers of {spec.backbone} {spec.weights}: {told}")
    yield f"{counted(len(best), by)} of {counted(n_trials, 'trial')}\n"


def _confirmed(board: list[Row]) -> Iterator[str]:
    """Tell what the confirmation rows say of the published models, a block of lines each."""
    from img2brain.leaderboard.published import confirmed_rows, heading, region_lines, score_heading, summary_table
    from img2brain.leaderboard.rows import printable

    rows = confirmed_rows(board)
    if not rows:
        return
    yield f"Published models, on {heading(rows)}"
    room = (terminal_width() or 80) - 5
    for row, line in zip(rows, summary_table(rows).to_dict("records"), strict=True):
        place = f"{line.pop('rank')}. ".lstrip(". ")
        yield printable(f"  {place}{line.pop('model')}: " + line.pop(score_heading(rows[0])))
        yield from (printable(f"     {name}: {text}") for name, text in line.items() if text)
        yield from (printable(f"     {text}") for text in region_lines(row, room))
    yield ""
