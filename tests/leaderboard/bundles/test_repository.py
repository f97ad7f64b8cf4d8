"""The results repository: its workflows' steps, run by hand in a clone, with good, tampered and hostile submissions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from img2brain.errors import DataError, SpecError, StoreError
from img2brain.leaderboard.bundles import contents
from img2brain.leaderboard.bundles.submit import submit_bundle
from tests.leaderboard.bundles.conftest import edit_json, published, reseal

if TYPE_CHECKING:
    from tests.leaderboard.bundles.conftest import Lab

REPOSITORY = Path(__file__).resolve().parents[3] / "experiments" / "leaderboard-repo"
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Lab"), ("EMAIL", "lab@example.org"))
}


def environment(**more: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | IDENTITY | {"PATH": path, "GIT_CONFIG_GLOBAL": os.devnull, "HOME": os.devnull} | more


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment()).stdout.strip()


def steps(workflow: str, **given: str) -> dict[str, tuple[str, dict[str, str]]]:
    """The commands of a workflow by their ids, each with its environment, what GitHub would fill in as given."""
    table = yaml.safe_load((REPOSITORY / ".github" / "workflows" / f"{workflow}.yml").read_text(encoding="utf-8"))
    found = {}
    for job in table["jobs"].values():
        for step in job["steps"]:
            if "run" in step:
                assert "${{" not in step["run"], "what others write must not become a part of a command"
                found[step["id"]] = (step["run"], {name: given[name] for name in step.get("env", {})})
    return found


def run(folder: Path, command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=folder, capture_output=True, text=True, check=False,
        env=environment(**env),
    )  # fmt: skip


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """The results repository, on its main branch, as its server has it."""
    folder = Path(shutil.copytree(REPOSITORY, tmp_path / "board", ignore=shutil.ignore_patterns("__pycache__")))
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, "Begin")
    return folder


@pytest.fixture
def with_lab(board: Path, bundle: Path) -> Path:
    """The same with the bundle of a lab, less one of its looks and rows."""
    shutil.copytree(bundle, board / "bundles" / "lab-a")
    commit(board, "Lab A")
    return board


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


def pull(board: Path, change: Any) -> tuple[Path, str]:
    """Make a pull request of a change in a clone, as the server has it; return a fresh clone of main and the base."""
    clone = board.with_name("fork")
    git(board.parent, "clone", "--quiet", str(board), str(clone))
    change(clone)
    if git(clone, "status", "--porcelain"):
        commit(clone, "Submit")
    git(board, "fetch", "--quiet", str(clone), "+HEAD:refs/pull/7/head")
    fresh = board.with_name("runner")
    git(board.parent, "clone", "--quiet", str(board), str(fresh))
    return fresh, git(fresh, "rev-parse", "origin/main")


def checked(board: Path, change: Any) -> subprocess.CompletedProcess[str]:
    """Run the steps that a pull request is checked by."""
    runner, base = pull(board, change)
    commands = steps("check", URL=str(board), NUMBER="7", BASE=base)
    assert list(commands) == ["install", "fetch", "check"]
    fetched = run(runner, commands["fetch"][0], **commands["fetch"][1])
    assert fetched.returncode == 0, fetched.stderr
    assert git(runner, "rev-parse", "HEAD") == base, "nothing of others is checked out"
    return run(runner, commands["check"][0], **commands["check"][1])


def put(bundle: Path, name: str) -> Any:
    def change(clone: Path) -> None:
        shutil.rmtree(clone / "bundles" / name, ignore_errors=True)
        shutil.copytree(bundle, clone / "bundles" / name)

    return change


def test_a_good_submission_is_taken_and_the_site_shows_it(board: Path, lab: Lab, tmp_path: Path) -> None:
    def change(clone: Path) -> None:
        git(clone, "config", "user.name", "Lab")
        git(clone, "config", "user.email", "lab@example.org")
        assert submit_bundle(clone, "lab-a", lab.home, title="Lab A") == "submit-lab-a"
        assert git(clone, "status", "--porcelain") == ""
        assert git(clone, "show", "--stat", "--format=", "HEAD").count("bundles/lab-a/") > 10
        with pytest.raises(StoreError, match="git switch must work"):
            submit_bundle(clone, "lab-a", lab.home)

    found = checked(board, change)
    assert (found.returncode, found.stdout) == (0, "the bundle of lab-a is taken\n"), found.stderr
    git(board, "merge", "--quiet", "refs/pull/7/head")
    (command, _) = steps("publish")["site"]
    built = run(board, command)
    assert built.returncode == 0, built.stderr
    page = (board / "site" / "index.html").read_text(encoding="utf-8")
    assert "Lab A" in page


def test_a_tampered_submission_is_refused_with_its_first_difference(board: Path, bundle: Path) -> None:
    def raise_score(record: Any) -> None:
        record["parts"]["confirmation"]["whole"]["score"]["high"] += 1e-6

    edit_json(published(bundle) / contents.CONFIRMATION, raise_score)
    reseal(bundle)
    found = checked(board, put(bundle, "lab-a"))
    assert found.returncode == 1
    assert found.stderr.count("\n") == 1
    assert "confirmation.whole.score.high must be" in found.stderr


def _workflow(clone: Path) -> None:
    (clone / ".github" / "workflows" / "check.yml").write_text("on: push\n", encoding="utf-8")


def _script(clone: Path) -> None:
    (clone / "check.py").write_text("print('the bundle of lab-a is taken')\n", encoding="utf-8")


def _link(clone: Path) -> None:
    (clone / "bundles" / "evil").mkdir()
    (clone / "bundles" / "evil" / "manifest.json").symlink_to("/etc/passwd")


def _program(clone: Path) -> None:
    (clone / "bundles" / "evil").mkdir()
    (clone / "bundles" / "evil" / "manifest.json").write_text("{}", encoding="utf-8")
    (clone / "bundles" / "evil" / "manifest.json").chmod(0o755)


def _others(clone: Path) -> None:
    shutil.rmtree(clone / "bundles" / "lab-a")


def _code(clone: Path) -> None:
    (clone / "bundles" / "evil").mkdir()
    (clone / "bundles" / "evil" / "img2brain.py").write_text("raise SystemExit(0)\n", encoding="utf-8")


def _named(clone: Path) -> None:
    (clone / "bundles" / "$(touch pwned)").mkdir()
    (clone / "bundles" / "$(touch pwned)" / "a").write_text("", encoding="utf-8")


def _nothing(clone: Path) -> None:
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "Nothing")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_workflow, "alone. It changes '.github/workflows/check.yml'"),
        (_script, "alone. It changes 'check.py'"),
        (_link, "must be a plain file"),
        (_program, "must be a plain file"),
        (_others, "must stay"),
        (_code, "must be a bundle"),
        (_named, "must be named by small letters"),
        (_nothing, "It changes 0"),
    ],
)
def test_a_hostile_submission_is_refused_and_runs_nothing(with_lab: Path, change: Any, told: str) -> None:
    found = checked(with_lab, change)
    assert found.returncode == 1
    assert told in found.stderr
    assert "Traceback" not in found.stderr
    assert not list(with_lab.parent.rglob("pwned"))


@pytest.mark.slow
def test_rows_of_a_folder_stay_as_they_are_and_its_home_has_no_other(
    with_lab: Path, bundle: Path, lab: Lab, tmp_path: Path
) -> None:
    found = checked(with_lab, put(bundle, "lab-b"))
    assert "a home has one folder; that of this home is 'lab-a'" in found.stderr
    for name in ("fork", "runner"):
        shutil.rmtree(with_lab.with_name(name))
    row = next(path for path in sorted((bundle / "rows").iterdir()) if not (path / "confirmation").exists())
    edit_json(row / contents.TRIAL, lambda trial: trial["timings"].update(wall_s=0.5))
    reseal(bundle)
    found = checked(with_lab, put(bundle, "lab-a"))
    assert found.returncode == 1
    assert "must be the one of the bundle" in found.stderr


@pytest.mark.slow
def test_a_folder_with_a_signer_is_changed_by_nobody_else(board: Path, bundle: Path, lab: Lab, tmp_path: Path) -> None:
    from img2brain.leaderboard.bundles.signature import sign

    keys = {}
    for name in ("own", "other"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(command, check=True, capture_output=True)
        keys[name] = " ".join((tmp_path / f"{name}.pub").read_text(encoding="utf-8").split()[:2])
    (board / "signers").write_text(f'lab-a namespaces="img2brain" {keys["own"]}\n', encoding="utf-8")
    commit(board, "Name the signer of Lab A")
    for name, told in (("", "It is not signed"), ("other", "signed by another"), ("own", "")):
        if name:
            sign(bundle, tmp_path / name)
        found = checked(board, put(bundle, "lab-a"))
        assert found.returncode == (1 if told else 0), found.stderr
        assert told in found.stderr
        for folder in ("fork", "runner"):
            shutil.rmtree(board.with_name(folder))


@pytest.mark.slow
def test_the_reference_rows_are_repeated_and_a_number_that_moves_fails(with_lab: Path, lab: Lab) -> None:
    row = published(with_lab / "bundles" / "lab-a").name
    study, _, number = row.rpartition(".")
    references = [{"bundle": "lab-a", "row": f"{study}#{number}", "data": [str(lab.data)]}]
    (with_lab / "references.json").write_text(json.dumps(references), encoding="utf-8")
    command, _ = steps("release", VERSION="0.1.0")["references"]
    found = run(with_lab, command)
    assert found.returncode == 0, found.stderr
    assert "repeated" in found.stdout
    references[0]["data"] = []
    (with_lab / "references.json").write_text(json.dumps(references), encoding="utf-8")
    found = run(with_lab, command)
    assert found.returncode == 1
    assert "was not repeated: " in found.stderr


def test_no_job_that_reads_what_others_wrote_can_write_or_knows_a_secret() -> None:
    for path in (REPOSITORY / ".github" / "workflows").iterdir():
        text = path.read_text(encoding="utf-8")
        table = yaml.safe_load(text)
        assert table["permissions"] == {"contents": "read"}
        assert "secrets" not in text
        for name, job in table["jobs"].items():
            for step in job["steps"]:
                if step.get("uses", "").startswith("actions/checkout"):
                    assert step["with"]["persist-credentials"] is False
                    assert "head" not in step["with"].get("ref", "")
            assert "permissions" not in job or name == "deploy"


def test_a_submission_needs_a_clone_a_name_and_the_own_folder(with_lab: Path, lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="small letters"):
        submit_bundle(with_lab, "../evil", lab.home)
    with pytest.raises(SpecError, match="must be a clone of a results repository"):
        submit_bundle(tmp_path, "lab-a", lab.home)
    edit_json(with_lab / "bundles" / "lab-a" / contents.MANIFEST, lambda manifest: manifest.update(home="f" * 32))
    with pytest.raises(SpecError, match="changed and not committed"):
        submit_bundle(with_lab, "lab-a", lab.home)
    commit(with_lab, "Another home")
    with pytest.raises(DataError, match="It is of another"):
        submit_bundle(with_lab, "lab-a", lab.home)
