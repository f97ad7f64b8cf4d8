"""How many trials a second many workers of one study ask and tell in one PostgreSQL, and what limits it.

Each worker asks, sleeps for 50 ms in place of an evaluation, and tells; its search, connections and signs of life are
its own. Several are threads of one process, so that 64 fit into a small machine; server and workers share its cores.
Random points, whose lock is held the shortest, and TPE are measured. Run it with

    uv run --extra postgresql python experiments/benchmarks/workers.py
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _bench import main, table

ROOT = Path(__file__).resolve().parents[2]
COUNTS = (1, 4, 16, 64)
SAMPLERS = ("random", "tpe")
EVALUATION_S, WINDOW_S = 0.05, 8.0
N_PROCESSES = 4  # that the workers are threads of
N_TRIALS = 1_000_000  # more than any window holds
SPEC = {
    "name": "fake", "dataset": {"path": "d"}, "trials": N_TRIALS, "n_components": [5, 10, 20, 50, 100],
    "backbones": [{"name": "alexnet", "weights": "random:0"}], "regressors": ["linear", "ridge", "lasso"],
}  # fmt: skip
LOCKED = "SELECT count(*) FILTER (WHERE wait_event = 'advisory'), count(*) FILTER (WHERE state = 'active') - 1, \
string_agg(coalesce(wait_event_type || ' ' || wait_event, 'computing'), ',') FILTER (WHERE state = 'active' \
AND pid <> pg_backend_pid()) FROM pg_stat_activity WHERE datname = current_database()"
COUNTED = "SELECT count(*), count(DISTINCT value_json) FROM trials JOIN trial_user_attributes USING (trial_id) \
WHERE key = 'number' AND state = 'COMPLETE'"


class Doing(threading.local):
    """What a thread does."""

    def __init__(self) -> None:
        self.name, self.queries = "nothing", Counter[str]()


doing = Doing()


@dataclass
class Spent:
    """What the workers of a process have spent, and found."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    queries: Counter[str] = field(default_factory=Counter)
    n_trials: int = 0

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Take the time of some work."""
        start, before = time.perf_counter(), doing.name
        doing.name = name
        yield
        doing.name = before
        self.seconds[name].append(time.perf_counter() - start)


def _search(folder: Path, url: str, sampler: str) -> Any:
    from img2brain.home import Home
    from img2brain.spec import StudySpec, parse
    from img2brain.study.search import Search
    from img2brain.study.space import Candidate, Space, find_domains

    spec = parse(StudySpec, SPEC, "the benchmark's study")
    layers = tuple(f"features.{number}" for number in range(13))
    networks = {item: Candidate("random:0", "digest", layers) for item in spec.backbones}
    home = Home(folder / "home", storage=url)
    return Search(home, "fake-1", Space(spec, find_domains(spec), networks), sampler, 0, {})


def _count_queries() -> None:
    """Count what the connections of the search log and those of Optuna are asked, by what its thread does."""
    import psycopg
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    execute = psycopg.Connection.execute

    def count(*args: Any, **options: Any) -> Any:
        doing.queries[doing.name] += 1
        return execute(*args, **options)

    psycopg.Connection.execute = count  # type: ignore[method-assign]
    event.listen(Engine, "before_cursor_execute", lambda *_: doing.queries.update([doing.name]))


def _watch_lock(search: Any, spent: Spent) -> None:
    """Take the time for which the study's lock is waited for and held."""
    take = search.alone

    @contextmanager
    def alone() -> Iterator[None]:
        with ExitStack() as stack:
            with spent.on("waiting for the lock"):
                stack.enter_context(take())
            with spent.on("holding the lock"):
                yield
                stack.close()

    search.alone = alone


def _work(search: Any, begins: threading.Event, ends: threading.Event, spent: Spent) -> None:
    """Do as a worker of a study does."""
    doing.queries = spent.queries
    _watch_lock(search, spent)
    with search.attend():
        begins.wait()
        while not ends.is_set():
            with spent.on("look"):
                search.n_told(N_TRIALS)
            with spent.on("ask"):
                asked = search.ask(N_TRIALS)
            time.sleep(EVALUATION_S)
            with spent.on("tell"):
                search.tell(asked, asked.suggestion.spec, asked.number % 97 / 97)
            spent.n_trials += 1


def crew() -> None:
    """Be a process of workers: for each line of JSON make some, say when they are ready, let them work for a while."""
    _count_queries()
    for line in sys.stdin:
        job = json.loads(line)
        begins, ends, found = threading.Event(), threading.Event(), [Spent() for _ in range(job["n_workers"])]
        searches = [_search(Path(job["folder"]), job["url"], job["sampler"]) for _ in found]
        jobs = zip(searches, found, strict=True)
        threads = [threading.Thread(target=_work, args=(search, begins, ends, spent)) for search, spent in jobs]
        for thread in threads:
            thread.start()
        print("ready", flush=True)  # noqa: T201
        sys.stdin.readline()
        cpu = time.process_time()
        begins.set()
        time.sleep(WINDOW_S)
        ends.set()
        for thread in threads:
            thread.join()
        print(json.dumps(_of_all(found) | {"cpu_s": time.process_time() - cpu}), flush=True)  # noqa: T201
        del searches, jobs, threads  # and with them their connections


def _of_all(found: list[Spent]) -> dict[str, Any]:
    seconds: dict[str, list[float]] = defaultdict(list)
    for spent in found:
        for name, times in spent.seconds.items():
            seconds[name] += times
    queries: Counter[str] = sum((spent.queries for spent in found), Counter())
    return {"n_trials": sum(spent.n_trials for spent in found), "seconds": seconds, "queries": queries}


def _sample(postgres: Any, name: str, found: list[tuple[int, int, str]], ends: threading.Event) -> None:
    while not ends.wait(0.5):
        n_waiting, n_active, doing = postgres.ask(name, LOCKED).split("|")
        found.append((int(n_waiting), int(n_active), doing))


def _all(folder: Path) -> Iterator[tuple[str, Any]]:
    """Measure each number of workers, by processes that are started once."""
    sys.path.insert(0, str(ROOT))
    from tests.postgres import running

    with running(settings=("-c max_connections=300", "-c listen_addresses=127.0.0.1")) as postgres, _crews() as crews:
        for sampler in SAMPLERS:
            for n_workers in COUNTS:
                yield f"{n_workers} {sampler}", _measure(folder, postgres, crews, sampler, n_workers)


@contextmanager
def _crews() -> Iterator[list[Any]]:
    words = [sys.executable, __file__, "--crew"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    crews = [subprocess.Popen(words, env=environment, **pipes) for _ in range(N_PROCESSES)]
    yield crews
    for process in crews:
        process.communicate()


def _measure(folder: Path, postgres: Any, crews: list[Any], sampler: str, n_workers: int) -> dict[str, Any]:
    name = postgres.new_database()
    at_work = crews[: min(n_workers, N_PROCESSES)]
    for number, process in enumerate(at_work):
        share = n_workers // len(at_work) + (number < n_workers % len(at_work))
        job = {"folder": str(folder), "url": postgres.url(name), "sampler": sampler, "n_workers": share}
        _tell(process, json.dumps(job))
    assert all(process.stdout.readline() == "ready\n" for process in at_work)
    samples: list[tuple[int, int, str]] = []
    ends = threading.Event()
    looks = threading.Thread(target=_sample, args=(postgres, name, samples, ends))
    cpu, start, load = postgres.cpu_s(), time.perf_counter(), os.getloadavg()[0]
    looks.start()
    for process in at_work:
        _tell(process, "")
    told = [json.loads(process.stdout.readline()) for process in at_work]
    wall_s, server_s = time.perf_counter() - start, postgres.cpu_s() - cpu
    ends.set()
    looks.join()
    counted = list(map(int, postgres.ask(name, COUNTED).split("|")))
    return _together(told, samples, wall_s, server_s) | {"counted": counted, "load": load}


def _tell(process: Any, line: str) -> None:
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _together(told: list[Any], samples: list[tuple[int, int, str]], wall_s: float, server_s: float) -> dict[str, Any]:
    n_trials = sum(item["n_trials"] for item in told)
    seconds: dict[str, list[float]] = defaultdict(list)
    for item in told:
        for name, times in item["seconds"].items():
            seconds[name] += times
    queries: Counter[str] = sum((Counter(item["queries"]) for item in told), Counter())
    waits = Counter(word for _, _, doing in samples for word in doing.split(",") if word)
    return {
        "n_trials": n_trials, "wall_s": wall_s, "server_s": server_s,
        "client_s": sum(item["cpu_s"] for item in told),
        "median_ms": {name: 1e3 * statistics.median(times) for name, times in seconds.items()},
        "held": sum(seconds["holding the lock"]) / wall_s,
        "queries": {name: number / n_trials for name, number in queries.items()},
        "waits": waits.most_common(4), "n_samples": len(samples),
    }  # fmt: skip


def _report(_: Path, measured: dict[str, dict[str, Any]]) -> str:
    figures = {name: found for name, found in measured["workers"].items() if name != "peak_mib"}
    head = (
        "workers", "trials/s", "of 20/s each", "ask ms", "lock waited ms", "held ms", "held of the time", "tell ms",
        "queries: to lock", "under the lock", "look", "tell", "ms CPU a trial: workers", "PostgreSQL", "load before",
    )  # fmt: skip
    waits = [f"{name}: {_waits(found)}" for name, found in figures.items()]
    counted = all(found["counted"] == [found["n_trials"]] * 2 for found in figures.values())
    rows = [_row(name, found) for name, found in figures.items()]
    return "\n".join(
        [
            table(head, rows), "", "Active sessions by what they wait for, of all samples of pg_stat_activity:", *waits,
            "", f"Each number is told once in the log, and as many as were told: {'yes' if counted else 'NO'}.",
        ]
    )  # fmt: skip


def _row(name: str, found: dict[str, Any]) -> tuple[object, ...]:
    n, rate = found["n_trials"], found["n_trials"] / found["wall_s"]
    ms, most = found["median_ms"], int(name.split(maxsplit=1)[0]) / EVALUATION_S
    queries = [found["queries"].get(part, 0) for part in ("waiting for the lock", "holding the lock", "look", "tell")]
    return (
        name, f"{rate:.1f}", f"{rate / most:.0%}", f"{ms['ask']:.1f}", f"{ms['waiting for the lock']:.1f}",
        f"{ms['holding the lock']:.1f}", f"{found['held']:.0%}", f"{ms['tell']:.1f}",
        *(f"{number:.1f}" for number in queries), f"{1e3 * found['client_s'] / n:.1f}",
        f"{1e3 * found['server_s'] / n:.1f}", f"{found['load']:.1f}",
    )  # fmt: skip


def _waits(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {number / found['n_samples']:.1f}" for name, number in found["waits"]) or "none"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--crew"]:
        crew()
    else:
        main(__file__, {"workers": _all}, _report)
