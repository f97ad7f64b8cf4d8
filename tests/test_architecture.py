"""The rules that hold for the whole code, each checked by the tool that knows it."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

import img2brain

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "img2brain"
UV = os.environ.get("UV") or shutil.which("uv") or "uv"
SCRIPTS = Path(sysconfig.get_path("scripts"))
HEAVY = ("torch", "torchvision", "mlflow", "optuna", "plotly", "sklearn", "scipy", "pandas")
ASSETS = ("index.html", "board.html", "figure.html", "figure.js", "site.css", "site.js")
LIBRARIES = {  # each library from outside, and the places that may import it
    "PIL": ("backbones", "data_report.pictures", "datasets", "features", "flavor", "model", "testing"),
    "click": ("cli",),
    "dask_jobqueue": ("study.cluster",),
    "distributed": ("study.cluster",),
    "filelock": ("beside", "holders", "home", "store", "study"),
    "h5py": ("datasets._hdf5", "study.export"),
    "huggingface_hub": ("hub",),
    "jinja2": ("leaderboard.site.templating",),
    "markupsafe": ("leaderboard.site.templating",),
    "mlflow": ("answers", "flavor", "serving", "tracking"),
    "numpy": ("",),  # everywhere
    "onnx": ("onnx_file",),
    "onnxruntime": ("onnx_file",),
    "optuna": ("study",),
    "pandas": ("flavor", "leaderboard", "model", "study"),
    "plotly": ("leaderboard.drawing", "leaderboard.figures", "leaderboard.region_figures"),
    "pydantic": ("datasets", "faults", "fetching", "leaderboard.bundles", "records", "spec", "tracking"),
    "psycopg": ("study._database_log", "study._postgres_trials"),
    "requests": ("leaderboard.reading", "tracking"),
    "safetensors": ("backbones", "model", "testing", "tracking"),
    "scipy": ("datasets", "features", "metrics", "regressors", "statistics"),
    "simplejpeg": ("datasets",),
    "sklearn": ("evaluate", "features", "regressors", "testing"),
    "sqlalchemy": ("study._database_log", "tracking"),
    "threadpoolctl": ("_arrays",),
    "timm": ("backbones.timm",),
    "torch": ("_arrays", "backbones", "features", "model", "onnx_file", "testing"),
    "torchvision": ("backbones", "features"),
    "tqdm": ("backbones", "progress", "study"),
    "uvicorn": ("serving",),
}
TOP_LEVEL = {
    "img2brain",
    "experiments",
    "tests",
    "docker",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CITATION.cff",
    "mlruns",
}


def run(*words: str) -> str:
    """Run a command in the repository and return what it prints; fail with its report where it fails."""
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.parametrize(
    "words",
    [("ruff", "check"), ("ruff", "format", "--check"), ("mypy",), ("lint-imports",)],
    ids=["lint", "format", "types", "imports"],
)
def test_tool_is_content(words: tuple[str, ...]) -> None:
    run(str(SCRIPTS / words[0]), *words[1:])


def test_docstrings_are_required() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert "D" in settings["select"]
    assert settings["pydocstyle"]["convention"] == "numpy"
    assert set(settings["ignore"]) & {"D100", "D101", "D102", "D103", "D104"} == set()


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_does_not_import_the_package_root(path: Path) -> None:
    assert root_imports(ast.parse(path.read_text(encoding="utf-8"))) == []


def test_root_imports_are_found() -> None:
    source = "import img2brain\nfrom img2brain import digest, load_model\nimport img2brain.spec\nfrom . import errors"
    assert root_imports(ast.parse(source)) == ["img2brain", "load_model", "."]


def root_imports(tree: ast.Module) -> list[str]:
    """Name what is imported from the package root, submodules aside; a relative import counts too."""
    modules = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name == "img2brain"]
        elif isinstance(node, ast.ImportFrom) and node.level:
            found.append("." * node.level)
        elif isinstance(node, ast.ImportFrom) and node.module == "img2brain":
            found += [name.name for name in node.names if name.name not in modules]
    return found


@pytest.fixture(scope="module")
def modules() -> dict[str, ast.Module]:
    """Each module of the package, by name."""
    parts = {path: path.relative_to(ROOT).with_suffix("").parts for path in PACKAGE.rglob("*.py")}
    return {
        ".".join(names).removesuffix(".__init__"): ast.parse(path.read_text(encoding="utf-8"))
        for path, names in parts.items()
    }


def imports(tree: ast.Module, ours: Collection[str]) -> set[str]:
    """Name all modules that are imported: at the top, in functions, and where only types are checked."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{name.name}" for name in node.names]
            found |= {name if name in ours else node.module for name in names}
    return found


def misplaced(module: str, imported: set[str]) -> list[str]:
    """Name the libraries that a module may not import; one that is not known has no place."""
    outside = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names - {"img2brain"}
    allowed = {library for library, places in LIBRARIES.items() if _is_within(module, places)}
    return sorted(outside - allowed)


def _is_within(module: str, places: Iterable[str]) -> bool:
    return any(f"{module}.".startswith(f"img2brain.{place}".rstrip(".") + ".") for place in places)


def rings(graph: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """Find the largest sets of nodes that all reach each other."""
    reached = {node: _reached(graph, node) for node in graph}
    return {frozenset(other for other in reached[node] if node in reached[other]) for node in graph} - {frozenset()}


def _reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    ahead = [start]
    while ahead:
        new = graph[ahead.pop()] - found
        found |= new
        ahead += new
    return found


def test_libraries_are_imported_in_their_places_only(modules: dict[str, ast.Module]) -> None:
    found = {name: misplaced(name, imports(tree, modules)) for name, tree in modules.items()}
    assert {name: libraries for name, libraries in found.items() if libraries} == {}


def test_a_library_in_another_place_is_found() -> None:
    typed = "if TYPE_CHECKING:\n    from optuna.trial import Trial"
    late = "def f():\n    import rich"
    imported = imports(ast.parse(f"import os\nimport numpy.typing\n{typed}\n{late}"), ())
    assert misplaced("img2brain.model", imported) == ["optuna", "rich"]
    assert misplaced("img2brain.study.search", imported) == ["rich"]
    assert misplaced("img2brain.study_of_others", imported) == ["optuna", "rich"]


def test_no_ring_of_imports(modules: dict[str, ast.Module]) -> None:
    graph = {name: imports(tree, modules) & set(modules) for name, tree in modules.items()}
    assert sum(map(len, graph.values())) > len(graph)
    assert rings(graph) == set()


def shared_names(modules: Mapping[str, ast.Module]) -> dict[str, list[str]]:
    """Name the public classes that stand in more than one module, and the modules."""
    places: dict[str, list[str]] = {}
    for module, tree in modules.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module)
    return {name: found for name, found in places.items() if len(found) > 1}


def test_a_name_means_one_class(modules: dict[str, ast.Module]) -> None:
    assert shared_names(modules) == {}


def test_classes_of_one_name_are_found() -> None:
    one, other = ast.parse("class Report: ...\nclass _Part: ..."), ast.parse("class Report: ...\nclass _Part: ...")
    assert shared_names({"a": one, "b": other}) == {"Report": ["a", "b"]}


def patched_constants(tree: ast.Module) -> list[str]:
    """Name the constants that a test sets where they belong to a module of ours: they should be parameters."""
    found: list[str] = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[ast.Name("Image"), *_]):
                continue  # Pillow's own limits
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[ast.Constant(str(name)), _]) if not _is_ours(name):
                continue  # where the hub's own library keeps its files
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[*_, ast.Constant(str(name)), _]):
                found += [name] if name.rpartition(".")[2].isupper() else []
    return found


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == "img2brain"


def test_no_test_changes_a_constant() -> None:
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "tests").rglob("*.py")}
    found = {path.name: patched_constants(tree) for path, tree in trees.items()}
    assert {name: constants for name, constants in found.items() if constants} == {}


def test_changed_constants_are_found() -> None:
    ours = "patch.setattr(pca, '_BLOCK_BYTES', 3)\nmonkeypatch.setattr('img2brain.digest._BLOCK', 1)"
    others = "monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 3)\nmonkeypatch.setattr(os, 'fsync', None)"
    others += "\nmonkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)"
    assert patched_constants(ast.parse(f"{ours}\n{others}")) == ["_BLOCK_BYTES", "img2brain.digest._BLOCK"]


def test_rings_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"e"}, "f": {"a"}}
    assert rings(graph) == {frozenset("abc"), frozenset("e")}


@pytest.mark.parametrize(
    "statement",
    [
        "import img2brain",
        "from img2brain.cli import main; main(['--help'], standalone_mode=False)",
        "from img2brain.cli import main; main(['study', 'run', '--help'], standalone_mode=False)",
    ],
    ids=["import", "help", "help of a command"],
)
def test_no_heavy_library_is_loaded(statement: str) -> None:
    check = f"import sys; loaded = set({HEAVY}) & set(sys.modules); assert not loaded, loaded"
    run(sys.executable, "-c", f"{statement}\n{check}")


def test_every_public_name_is_there() -> None:
    assert all(getattr(img2brain, name) for name in img2brain.__all__)
    assert set(img2brain.__all__) <= set(dir(img2brain))


def test_wheel_carries_what_is_not_python(tmp_path: Path) -> None:
    run(UV, "build", "--wheel", "--out-dir", str(tmp_path))
    (wheel,) = tmp_path.glob("*.whl")
    carried = set(zipfile.ZipFile(wheel).namelist())
    assert {f"img2brain/leaderboard/site/templates/{name}" for name in ASSETS} <= carried
    assert {f"img2brain/data_report/templates/report.{kind}" for kind in ("css", "html")} <= carried
    assert {"img2brain/study/every_key.toml", "img2brain/listing.json.gz"} <= carried
    assert {name.split("/")[0].partition("-")[0] for name in carried} == {"img2brain"}


@pytest.fixture(scope="module")
def git() -> Any:
    """Ask git; skips where this is no clone."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git clone")
    trust = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": str(ROOT)}
    environment = os.environ | trust

    def ask(*words: str) -> list[str]:
        asked = subprocess.run(
            ["git", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment, check=False
        )
        return asked.stdout.splitlines()

    return ask


def test_top_level_is_fixed(git: Any) -> None:
    top = {name.split("/")[0] for name in git("ls-files")}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL
    assert [name for name in git("ls-files", "mlruns") if name != "mlruns/README.md"] == []


def test_lock_file_stays_out(git: Any) -> None:
    assert git("check-ignore", "uv.lock") == ["uv.lock"]
    assert git("ls-files", "uv.lock") == []
