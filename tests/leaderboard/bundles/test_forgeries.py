"""Bundles that were tampered with, digests mended or not: none is taken, and nothing is written."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import stat
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pytest

from img2brain import digest, looks
from img2brain.errors import DataError, Img2BrainError
from img2brain.home import Home
from img2brain.leaderboard.bundles import contents
from img2brain.leaderboard.bundles.agreement import first_difference
from img2brain.leaderboard.bundles.imported import import_bundle
from img2brain.records import TrialRecord
from img2brain.verify import Verified, verify_bundle
from tests.leaderboard.bundles.conftest import edit_array, edit_json, leaves, published, reseal

if TYPE_CHECKING:
    from tests.leaderboard.bundles.conftest import Lab

STEP = 1e-6


class Bundled(Protocol):
    """What wrote a bundle that no test changes."""

    bundle: Path


def refused(bundle: Path) -> str:
    """Why a bundle is refused, on one line; fails where it is not."""
    with pytest.raises(Img2BrainError) as told:
        verify_bundle(bundle).require()
    assert "\n" not in str(told.value)
    return str(told.value)


def accepted_rows(bundle: Path) -> list[str]:
    """The rows that are taken at the level of arithmetic or above."""
    found: Verified | None = None
    with suppress(Img2BrainError):
        found = verify_bundle(bundle)
    if found is None:
        return []
    return [row.row for row in found.rows if row.level not in ("", "records")]


def set_at(value: Any, place: tuple[Any, ...], new: Any) -> None:
    for key in place[:-1]:
        value = value[key]
    value[place[-1]] = new


def test_every_number_of_a_confirmation_is_found_where_it_moves_by_a_millionth(bundle: Path) -> None:
    path = published(bundle) / contents.CONFIRMATION
    record = json.loads(path.read_text(encoding="utf-8"))
    numbers = [(place, value) for place, value in leaves(record) if math.isfinite(value)]
    assert len(numbers) > 20
    for place, value in numbers:
        path.write_text(contents.text_of(_changed(record, place, value + STEP)), encoding="utf-8")
        reseal(bundle)
        assert published(bundle).name not in accepted_rows(bundle), place


def _changed(record: Any, place: tuple[Any, ...], new: Any) -> Any:
    copy = json.loads(json.dumps(record))
    set_at(copy, place, new)
    return copy


def test_every_summary_of_a_trial_is_found_where_it_moves_by_a_millionth(bundle: Path) -> None:
    row = next(path for path in sorted((bundle / "rows").iterdir()) if not (path / "confirmation").exists())
    path = row / "trial.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    for place, value in leaves(record["metrics"], ("metrics",)):
        path.write_text(contents.text_of(_changed(record, place, value + STEP)), encoding="utf-8")
        reseal(bundle)
        assert row.name not in accepted_rows(bundle), place


def test_every_array_is_found_where_one_number_moves_by_a_millionth(bundle: Path, lab: Lab) -> None:
    row = published(bundle)
    paths = [path for path in sorted(row.rglob("*.npy")) if np.load(path).dtype.kind == "f" and np.load(path).size]
    assert len(paths) > 10
    for path in paths:
        edit_array(path, _moved)
        reseal(bundle)
        assert row.name not in accepted_rows(bundle), path
        shutil.copyfile(lab.bundle / path.relative_to(bundle), path)


def _moved(array: Any) -> Any:
    array = array.astype(np.float64)
    flat = array.reshape(-1)
    place = int(np.flatnonzero(np.isfinite(flat))[0])
    flat[place] += STEP
    return array


@pytest.mark.parametrize("spoil", ["drop", "drop and link again", "reorder", "edit", "edit the last"])
def test_a_look_that_is_dropped_moved_or_edited_shows(bundle: Path, spoil: str) -> None:
    path = bundle / contents.LOOKS
    chain = looks.of_lines(path.read_text(encoding="utf-8").splitlines(), "the chain")
    assert len(chain) == 2
    if spoil == "drop":
        chain = chain[1:]
    elif spoil == "drop and link again":
        chain = looks.extended([], [chain[1]])
        edit_json(bundle / contents.MANIFEST, lambda manifest: manifest.update(looks=chain[-1].digest))
    elif spoil == "reorder":
        chain = chain[::-1]
    else:
        place = 0 if spoil == "edit" else 1
        chain[place] = chain[place].model_copy(update={"when": "2001-01-01T00:00:00+00:00"})
    path.write_text(looks.to_lines(chain), encoding="utf-8")
    reseal(bundle)
    assert "look" in refused(bundle)


@pytest.mark.parametrize(
    ("name", "edit", "told"),
    [
        ("manifest.json", lambda m: m.update(format=2), "must be a whole number from 1 to 1"),
        ("manifest.json", lambda m: m.update(kind="other"), "kind"),
        ("manifest.json", lambda m: m.update(home="../../etc"), "home"),
        ("manifest.json", lambda m: m.update(title="a\x1b[2Jb"), "printable"),
        ("manifest.json", lambda m: m["rows"].popitem(), "must hold nothing but"),
        ("manifest.json", lambda m: m.update(rows={}), "at least one row|nothing but"),
        ("boards.json", lambda b: b[0]["rows"].reverse(), "boards"),
        ("boards.json", lambda b: b[0]["published"][0].update(rank=7), "boards"),
        ("study", lambda s: s["description"].update(seed=99), "study"),
        ("study", lambda s: s["regions"].update(all=[0, 99]), "voxels"),
        ("study", lambda s: s.update(format=9), "newer version"),
        ("confirmation", lambda c: c.update(validation=0.99), "validation"),
        ("confirmation", lambda c: c["parts"]["confirmation"].update(looks=7), "looks"),
        ("confirmation", lambda c: c["parts"]["confirmation"].update(n_images=400), "n_images"),
        ("confirmation", lambda c: c["parts"]["confirmation"].update(rows="0" * 64), "row|look"),
        ("confirmation", lambda c: c["parts"]["confirmation"]["whole"]["controls"].popitem(), "nothing but|control"),
        ("trial", lambda t: t["spec"].update(layer="another"), "look"),
        ("trial", lambda t: t.update(number=5), "row"),
        ("trial", lambda t: t["dataset"].update(digest="0" * 64), "digest|manifest"),
    ],
)  # fmt: skip
def test_a_record_that_was_changed_is_refused(bundle: Path, name: str, edit: Any, told: str) -> None:
    row = published(bundle)
    (study,) = [path for path in (bundle / "studies").iterdir() if row.name.startswith(path.stem)]
    places = {"study": study, "confirmation": row / "confirmation.json", "trial": row / "trial.json"}
    path = places.get(name, bundle / name)

    def edited(value: Any) -> None:
        edit(value)

    edit_json(path, edited)
    reseal(bundle)
    found = refused(bundle)
    assert any(part in found for part in told.split("|")), found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"format": NaN}', "JSON"),
        ("[" * 100_000, "JSON|nested"),
        ('{"format": 1, "format": 1}', "JSON"),
        ('{"format": 1e400}', "JSON"),
        ('{"format": ' + "9" * 5000 + "}", "JSON|digits|64 bits"),
        ("\x00\xff", "JSON"),
        ("{}", "JSON"),
        ("{}\n", "format"),
    ],
)
@pytest.mark.parametrize("name", ["manifest.json", "boards.json", "trial"])
def test_what_is_no_record_is_refused(bundle: Path, name: str, text: str, told: str) -> None:
    path = published(bundle) / "trial.json" if name == "trial" else bundle / name
    path.write_text(text, encoding="utf-8")
    if name != "manifest.json":
        reseal(bundle)
    found = refused(bundle)
    assert name == "boards.json" or any(part in found for part in told.split("|")), found


@pytest.mark.parametrize(
    "edit",
    [
        lambda a: np.full_like(a, np.nan),
        lambda a: np.full_like(a, np.inf),
        lambda a: a[:-1],
        lambda a: a[:, None],
        lambda a: a.astype(complex),
        lambda a: a.astype(">f8"),
        lambda a: a.astype(np.float16),
        lambda a: np.array(["x"] * len(a)),
        lambda a: np.where(np.arange(len(a)) == 0, np.nan, a),
    ],
    ids=["all NaN", "infinite", "shorter", "deeper", "complex", "big-endian", "narrow", "texts", "a NaN"],
)
@pytest.mark.parametrize(
    "name", ["accuracy", "confirmation/accuracy", "confirmation/p", "confirmation/summaries_resampled"]
)
def test_an_array_of_another_kind_is_refused(bundle: Path, name: str, edit: Any) -> None:
    path = published(bundle) / f"{name}.npy"
    array = np.load(path)
    np.save(path, edit(array.copy()))
    reseal(bundle)
    assert published(bundle).name not in accepted_rows(bundle)


def test_files_that_do_not_belong_are_refused(bundle: Path, lab: Lab, tmp_path: Path) -> None:
    responses = bundle / published(bundle).relative_to(bundle) / "confirmation" / "responses.npy"
    responses.write_bytes((published(lab.bundle) / "accuracy.npy").read_bytes())
    assert "must hold the files that its manifest.json names" in refused(bundle)
    reseal(bundle)
    assert "nothing but what a bundle may hold" in refused(bundle)
    responses.unlink()
    reseal(bundle)
    assert accepted_rows(bundle)
    responses.symlink_to("/etc/passwd")
    assert "link" in refused(bundle)
    responses.unlink()
    os.mkfifo(responses)
    assert stat.S_ISFIFO(responses.stat().st_mode)
    assert "link or the like" in refused(bundle)


@pytest.mark.parametrize("name", ["../evil.json", "/etc/evil", "C:\\evil", "rows/../../evil", "rows/x/con.json"])
def test_a_name_that_leads_out_is_refused_and_nothing_is_written(lab: Lab, tmp_path: Path, name: str) -> None:
    path, home = tmp_path / "bundle.zip", Home(tmp_path / "in" / "home")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(item for item in lab.bundle.rglob("*") if item.is_file()):
            archive.write(file, file.relative_to(lab.bundle).as_posix())
        archive.writestr(name, "evil")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="plain relative name"):
        import_bundle(path, home)
    assert sorted(tmp_path.rglob("*")) == before


def test_bombs_and_headers_of_ten_gigabytes_are_refused(lab: Lab, bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b"\0" * 50_000_000)
    assert "unpack to at most" in refused(path)
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1250000000,), }"
    start = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.ljust(117) + b"\n"
    (published(bundle) / "accuracy.npy").write_bytes(start)
    reseal(bundle)
    assert "as its header says" in refused(bundle)


def test_a_forgery_that_agrees_with_itself_is_found_with_the_data(bundle: Path, lab: Lab) -> None:
    """Predictions that were made up score otherwise; what was scored is compared with the data at hand."""
    row = published(bundle)
    edit_array(row / contents.PREDICTIONS, lambda array: array[::-1].copy())
    path = bundle / contents.LOOKS
    chain = looks.of_lines(path.read_text(encoding="utf-8").splitlines(), "the chain")
    trial = json.loads((row / "trial.json").read_text(encoding="utf-8"))
    own = TrialRecord.model_validate(trial).digest
    made_up = digest.of_array(np.load(row / contents.PREDICTIONS))
    forged = [look.model_copy(update={"predictions": made_up}) if look.trial == own else look for look in chain]
    linked = looks.extended([], forged)
    path.write_text(looks.to_lines(linked), encoding="utf-8")
    edit_json(bundle / contents.MANIFEST, lambda manifest: manifest.update(looks=linked[-1].digest))
    reseal(bundle)
    assert row.name in accepted_rows(bundle), "its arithmetic agrees"
    (found,) = (item for item in verify_bundle(bundle, data={"": lab.data}).rows if item.row == row.name)
    assert found.difference is not None
    assert "confirmation." in found.difference.what


def mutate(chance: random.Random, bundle: Path) -> str:
    """Change something at random, some digests mended; return what was changed."""
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    path = chance.choice(files)
    content = bytearray(path.read_bytes())
    how = chance.choice(["flip", "cut", "grow", "number", "drop", "swap"])
    if how == "flip" and content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif how == "cut":
        content = content[: chance.randrange(len(content) + 1)]
    elif how == "grow":
        content += bytes(chance.randrange(256) for _ in range(chance.randrange(1, 9)))
    elif how == "number" and path.suffix == ".json":
        value = json.loads(content)
        places = list(leaves(value))
        if places:
            place, number = chance.choice(places)
            set_at(value, place, number + STEP * chance.choice([-1, 1, 1e3]))
        content = bytearray(contents.text_of(value).encode())
    elif how == "swap":
        content = bytearray(chance.choice(files).read_bytes())
    if how == "drop":
        path.unlink()
    else:
        path.write_bytes(bytes(content))
    if chance.random() < 0.5 and path.name != contents.MANIFEST:
        reseal(bundle)
    return f"{how} {path.relative_to(bundle)}"


def differs(bundle: Path, lab: Bundled) -> set[str]:
    """Name the files that are not what they were; predictions may be absent, as where they were not asked for."""
    found = set()
    for path in lab.bundle.rglob("*"):
        other = bundle / path.relative_to(lab.bundle)
        left_out = not other.exists() and path.name == Path(contents.PREDICTIONS).name
        if path.is_file() and not left_out and not _is_same(path, other):
            found.add(path.relative_to(lab.bundle).as_posix())
    return found


def _is_same(path: Path, other: Path) -> bool:
    """Compare two files; numbers of a record that differ within the tolerance are the same."""
    if not other.is_file():
        return False
    if path.read_bytes() == other.read_bytes():
        return True
    with suppress(ValueError):
        one, two = (json.loads(file.read_bytes()) for file in (path, other))
        return path.suffix == ".json" and first_difference(one, two, "") is None
    return False


def answers_for(names: set[str], lab: Bundled) -> bool:
    """Tell whether arithmetic answers for one of these files: what an unpublished trial says it tried is a claim."""
    free = {name for name in names if name == contents.MANIFEST or name.startswith("studies/")}
    free |= {
        name
        for name in names
        if name.endswith("/trial.json") and not (lab.bundle / name).with_name("confirmation.json").exists()
    }
    return bool(names - free)


def fuzz(lab: Bundled, folder: Path, n_turns: int, seed: int) -> None:
    chance = random.Random(seed)
    rows = len(verify_bundle(lab.bundle).rows)
    for turn in range(n_turns):
        bundle = Path(shutil.copytree(lab.bundle, folder / "mutant"))
        told = mutate(chance, bundle)
        taken = accepted_rows(bundle)
        changed = differs(bundle, lab)
        if len(taken) == rows and changed:
            assert not answers_for(changed, lab), f"turn {turn} of seed {seed}: {told} was taken"
        shutil.rmtree(bundle)


def test_mutated_bundles_are_never_taken_and_nothing_crashes(lab: Lab, tmp_path: Path) -> None:
    fuzz(lab, tmp_path, 200, 0)


@pytest.mark.slow
def test_ten_thousand_mutated_bundles_are_never_taken(lab: Lab, tmp_path: Path) -> None:
    fuzz(lab, tmp_path, 10_000, 1)
