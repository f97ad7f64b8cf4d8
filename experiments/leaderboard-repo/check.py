"""Check what a pull request submits, build the site, or repeat the reference rows; see README.md.

It runs from the main branch. What it is given of others is read out of git as data: nothing of it is checked out,
imported or executed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BUNDLES, MANIFEST, FILE_MODE, NO_MODE = "bundles", "manifest.json", "100644", "000000"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
MOST_FILES, MOST_BYTES = 50_000, 2_000_000_000


class SubmissionError(Exception):
    """Why a submission is not taken."""


def main(words: list[str]) -> int:
    """Run the command that is asked for."""
    commands: dict[str, Callable[..., None]] = {
        "submission": check_submission,
        "site": build_site,
        "references": repeat_references,
    }
    try:
        commands[words[0]](*words[1:])
    except (IndexError, KeyError, TypeError):
        print("usage: check.py submission BASE HEAD | site OUT | references", file=sys.stderr)
        return 2
    except SubmissionError as error:
        print(f"refused: {printable(str(error))}", file=sys.stderr)
        return 1
    return 0


def check_submission(base: str, head: str) -> None:
    """Check all that changes between a commit of the main branch and one of others."""
    base, head = commit_of(base), commit_of(head)
    name = only_folder(base, head)
    with tempfile.TemporaryDirectory() as scratch:
        old, new = Path(scratch) / "old", Path(scratch) / "new"
        if not extract(head, f"{BUNDLES}/{name}", new):
            raise SubmissionError(f"the folder {name!r} must stay: a maintainer takes it out")
        is_known = extract(base, f"{BUNDLES}/{name}", old)
        verify(new, name)
        require_owner(base, name, new, old if is_known else None)
        if is_known:
            require_goes_on(old, new, Path(scratch) / "home")
    print(f"the bundle of {name} is taken")


def only_folder(base: str, head: str) -> str:
    """Return the one folder of a bundle that everything which changes lies in."""
    fields = git("diff", "--raw", "-z", "--no-renames", "--abbrev=40", f"{base}...{head}").split("\0")
    names = set()
    for told, path in zip(fields[:-1:2], fields[1::2], strict=True):
        _, mode, *_ = told.split()
        parts = path.split("/")
        if parts[0] != BUNDLES or len(parts) < 3:
            raise SubmissionError(
                f"a submission must change files in one folder of {BUNDLES}/ alone. It changes {path!r}"
            )
        if mode not in (FILE_MODE, NO_MODE):
            raise SubmissionError(f"{path!r} must be a plain file. It is a link, a program or the like")
        names.add(parts[1])
    if len(names) != 1:
        raise SubmissionError(f"a submission must change one folder of {BUNDLES}/. It changes {len(names)}")
    (name,) = names
    if not NAME.fullmatch(name):
        raise SubmissionError(f"the folder must be named by small letters, digits and hyphens. Got {name!r}")
    return name


def require_owner(base: str, name: str, new: Path, old: Path | None) -> None:
    """Refuse a folder of another home, and a second folder of one home."""
    home = manifest(new)["home"]
    if old is not None and manifest(old)["home"] != home:
        raise SubmissionError(f"the folder {name!r} must be submitted by the home that it is of. This is another")
    for other in folders(base):
        text = git("show", f"{base}:{BUNDLES}/{other}/{MANIFEST}")
        if other != name and json.loads(text)["home"] == home:
            raise SubmissionError(f"a home has one folder; that of this home is {other!r}, not {name!r}")


def require_goes_on(old: Path, new: Path, home: Path) -> None:
    """Refuse a bundle in which a row that was published is absent or another, or whose chain of looks is another."""
    absent = manifest(old)["rows"].keys() - manifest(new)["rows"].keys()
    if absent:
        raise SubmissionError(f"the row {sorted(absent)[0]!r} must stay. It is not there any more")
    for bundle in (old, new):
        img2brain("leaderboard", "import", str(bundle), "--home", str(home))


def verify(folder: Path, name: str) -> None:
    """Check a bundle at the level of arithmetic, and its signature where its folder has a signer."""
    words = ["leaderboard", "verify", str(folder), "--json"]
    signers = HERE / "signers"
    lines = signers.read_text(encoding="utf-8").splitlines() if signers.exists() else []
    is_signed = any(line.split()[:1] == [name] for line in lines)
    found = json.loads(img2brain(*words, *(["--signers", str(signers)] if is_signed else [])))
    if is_signed and found["signer"] != name:
        raise SubmissionError(
            f"the bundle of {name!r} must be signed by its own key. It is signed by {found['signer']!r}"
        )
    for row in found["rows"]:
        if row["level"] in ("", "records"):
            raise SubmissionError(
                f"the row {row['name']!r} must hold at the level arithmetic. It lacks {row['missing']}"
            )


def build_site(out: str) -> None:
    """Check every bundle of the working tree, and build the site of all."""
    with tempfile.TemporaryDirectory() as scratch:
        home = str(Path(scratch) / "home")
        for folder in sorted(path for path in (HERE / BUNDLES).iterdir() if path.is_dir()):
            verify(folder, folder.name)
            print(img2brain("leaderboard", "import", str(folder), "--home", home).strip())
        print(img2brain("leaderboard", "build", out, "--home", home).strip())


def repeat_references() -> None:
    """Repeat the rows of references.json from their data; fail where a published number moves."""
    for item in json.loads((HERE / "references.json").read_text(encoding="utf-8")):
        words = ["leaderboard", "verify", str(HERE / BUNDLES / item["bundle"]), "--rerun", item["row"], "--json"]
        words += [word for folder in item.get("data", []) for word in ("--data", folder)]
        words += [word for file in item.get("weights", []) for word in ("--weights", file)]
        rows = {row["name"].replace(" ", ""): row for row in json.loads(img2brain(*words))["rows"]}
        found = rows[item["row"]]
        if found["level"] != "rerun":
            raise SubmissionError(f"the reference row {item['row']!r} was not repeated: {'; '.join(found['missing'])}")
        print(f"{item['row']} of {item['bundle']}: repeated")


def extract(commit: str, folder: str, target: Path) -> bool:
    """Write the files of a folder of a commit, plain ones alone, and tell whether there are any."""
    entries = [entry for entry in git("ls-tree", "-r", "-z", "-l", commit, "--", f"{folder}/").split("\0") if entry]
    if len(entries) > MOST_FILES:
        raise SubmissionError(f"a bundle must have at most {MOST_FILES} files. It has {len(entries)}")
    n_bytes = 0
    for entry in entries:
        about, _, path = entry.partition("\t")
        mode, kind, blob, size = about.split()
        parts = path.removeprefix(f"{folder}/").split("/")
        if (mode, kind) != (FILE_MODE, "blob") or any(part in ("", ".", "..") or "\\" in part for part in parts):
            raise SubmissionError(f"{path!r} must be a plain file. It is a link, a program or the like")
        n_bytes += int(size)
        if n_bytes > MOST_BYTES:
            raise SubmissionError(f"a bundle must have at most {MOST_BYTES} bytes")
        file = target.joinpath(*parts)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(git_bytes("cat-file", "blob", blob))
    return bool(entries)


def folders(commit: str) -> Iterator[str]:
    """Name the folders of bundles of a commit."""
    for line in git("ls-tree", "-d", "-z", "--name-only", commit, "--", f"{BUNDLES}/").split("\0"):
        if line:
            yield line.removeprefix(f"{BUNDLES}/")


def manifest(folder: Path) -> Any:
    """Read the table of contents of a bundle that was verified."""
    return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))


def commit_of(name: str) -> str:
    """Return the commit of a name; one that begins as an option does is none."""
    if name.startswith("-"):
        raise SubmissionError(f"a commit must be named. Got {name!r}")
    return git("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}").strip()


def git(*words: str) -> str:
    """Ask git."""
    return git_bytes(*words).decode("utf-8", "surrogateescape")


def git_bytes(*words: str) -> bytes:
    """Ask git for bytes."""
    ended = subprocess.run(["git", "-C", str(HERE), *words], capture_output=True, check=False)
    if ended.returncode:
        raise SubmissionError(f"git {words[0]} failed: {ended.stderr.decode('utf-8', 'replace').strip()}")
    return ended.stdout


def img2brain(*words: str) -> str:
    """Run the installed img2brain; what it refuses is refused."""
    ended = subprocess.run(["img2brain", *words], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SubmissionError(next(iter(reversed(ended.stderr.strip().splitlines())), "img2brain failed"))
    return ended.stdout


def printable(text: str) -> str:
    """Spell out what would act on a terminal, or on a log."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
