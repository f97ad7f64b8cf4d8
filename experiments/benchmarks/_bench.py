"""What the benchmarks share: every contender runs in a process of its own, and the table is kept with its machine.

A benchmark is a script that hands `main` its contenders by name. Each is called with the folder that all contenders
share (for arrays that are generated once) and returns the figures it measured; what it saves under its own name is
there for the report, which can so compare results as well as times.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from img2brain._heap import keep_freed_memory

Figures = dict[str, Any]
Found = Figures | Iterator[tuple[str, Any]]  # figures together, or one after another as they are measured
Contender = Callable[[Path], Found]
_STOPPED_S = 5.0  # that a contender which was told to stop has for it


def main(script: str, contenders: Mapping[str, Contender], report: Callable[[Path, dict[str, Figures]], str]) -> None:
    """Measure every contender, print the report and keep it beside the script.

    Parameters
    ----------
    script : str
        ``__file__`` of the benchmark.
    contenders : mapping of str to callable
        From the shared folder to figures, such as ``{"seconds": 1.5}``; ``peak_mib`` is added. One that yields them
        one by one leaves those that it has found where it is stopped. One that raises
        `ModuleNotFoundError` is reported as ``{"absent": its name}``.
    report : callable
        From the shared folder and the figures by contender to the text that is printed and kept.
    """
    if is_contender(contenders):
        return
    chosen = sys.argv[1:] or list(contenders)
    if unknown := [name for name in chosen if name not in contenders]:
        sys.exit(f"Error: unknown contender {unknown[0]!r}. Known: {', '.join(contenders)}.")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        figures = {name: _measure(script, name, Path(scratch)) for name in chosen}
        body = report(Path(scratch), figures)
    today = datetime.datetime.now(tz=datetime.UTC)
    text = f"{today:%Y-%m-%d}, {machine()}\nload average before: {load:.2f}\n\n{body}\n"
    print(text, end="")  # noqa: T201 - a benchmark prints
    if not sys.argv[1:]:
        Path(script).with_suffix(".txt").write_text(text, encoding="utf-8")


def seconds(function: Callable[[], Any], repeats: int = 3) -> float:
    """Return the median duration of some calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Align columns: the first to the left, numbers to the right."""
    cells = [[str(item) for item in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])


def machine() -> str:
    """Describe the machine and the libraries that decide."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())
    libraries = ", ".join(f"{name} {_version(name)}" for name in ("numpy", "torch", "scikit-learn"))
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, {libraries}"


def is_contender(contenders: Mapping[str, Contender]) -> bool:
    """Measure a contender, where this process was started for one, and tell whether it was."""
    if sys.argv[1:2] != ["--contender"]:
        return False
    _run(contenders[sys.argv[2]], Path(sys.argv[3]), Path(sys.argv[4]))
    return True


def measured(script: str, name: str, folder: Path, limit_s: float, words: Sequence[str] = ()) -> Figures:
    """Measure a contender within a time, and go on whatever becomes of it.

    Returns
    -------
    dict
        What it found; with ``wrong``, in a few words, where it failed or was stopped.
    """
    out, errors = folder / f"{name}.json", folder / f"{name}.err"
    command = [sys.executable, script, "--contender", name, str(folder), str(out), *words]
    with errors.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
        try:
            wrong = _last(errors) if process.wait(limit_s) else ""
        except subprocess.TimeoutExpired:
            wrong = f"stopped after {limit_s:.0f} s"
        finally:
            _stop(process)  # what an interrupt leaves at work, too
    figures: Figures = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    return figures | ({"wrong": wrong} if wrong else {})


def _last(errors: Path) -> str:
    """Return the last line that a process that failed has written."""
    lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"failed: {lines[-1][:200] if lines else 'without a word'}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process, where it is at work, and those that it started."""
    for signal_ in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal_)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOPPED_S)
            return


def _measure(script: str, name: str, folder: Path) -> Figures:
    out = folder / f"{name}.json"
    print(f"... {name}", file=sys.stderr, flush=True)  # noqa: T201
    subprocess.run([sys.executable, script, "--contender", name, str(folder), str(out)], check=True)
    figures: Figures = json.loads(out.read_text(encoding="utf-8"))
    return figures


def _run(contender: Contender, folder: Path, out: Path) -> None:
    keep_freed_memory()  # as the command line does; here for every contender alike
    figures: Figures = {}
    try:
        found = contender(folder)
        for name, value in found.items() if isinstance(found, dict) else found:
            figures[name] = value
            _write(out, figures)
    except ModuleNotFoundError as error:
        figures = {"absent": str(error.name)}
    _write(out, figures)


def _write(out: Path, figures: Figures) -> None:
    """Write what is known so far, whole or not at all."""
    figures["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    beside = out.with_suffix(".part")
    beside.write_text(json.dumps(figures), encoding="utf-8")
    beside.replace(out)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
