"""Many threads of one process, and the children of its forks, get the numbers that one call alone gets."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from img2brain import Home, load_model, run_study
from img2brain._forks import alone, works_after_fork
from img2brain._quiet import ignored
from img2brain.backbones import build_fresh, load_backbone
from img2brain.backbones._exact import Products
from img2brain.backbones._random import SeededFill
from img2brain.backbones._trace import Trace
from img2brain.backbones.torchvision import Torchvision
from img2brain.records.trial import TrialRecord

if TYPE_CHECKING:
    from tests.conftest import Finished, NewHome

N_THREADS = 8
SAVED = Path(__file__).parent / "fixtures" / "model-format-2" / "network"
PICTURES = list(np.random.RandomState(0).randint(0, 256, (3, 50, 40, 3)).astype(np.uint8))


def at_once(works: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run functions in as many threads, which start together; return what each returned."""
    ready = threading.Barrier(len(works))

    def start(work: Callable[[], Any]) -> Any:
        ready.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(start, works))


def loaded_and_used(name: str, home: Path) -> Any:
    return load_model(name, home).predict(PICTURES)


def test_threads_load_and_predict_at_once(finished: Finished) -> None:
    sources = [(str(SAVED), finished.home), ("sample", finished.home)] * (N_THREADS // 2)
    expected = {name: load_model(name, home).predict(PICTURES) for name, home in sources[:2]}
    shared = load_model("sample", finished.home)
    works = [partial(loaded_and_used, name, home) for name, home in sources]
    found = at_once([*works, *[partial(shared.predict, PICTURES)] * 2])
    for (name, _), responses in zip(sources, found, strict=False):
        np.testing.assert_array_equal(responses, expected[name])
    for responses in found[-2:]:
        np.testing.assert_array_equal(responses, expected["sample"])


def test_a_network_runs_while_others_are_traced() -> None:
    network = load_backbone("squeezenet1_1", "random:0").network
    batch, done = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)), threading.Event()
    with torch.inference_mode():
        expected = network(batch)

    def trace() -> int:
        try:
            return len([Trace("net", Torchvision().build("squeezenet1_1", {}).eval()).nodes for _ in range(5)])
        finally:
            done.set()

    def run() -> int:
        n_runs = 0
        with torch.inference_mode():
            while not done.is_set() or not n_runs:
                assert torch.equal(network(batch), expected)
                n_runs += 1
        return n_runs

    assert min(at_once([trace, run, run])) > 0


def accuracies(home: Path) -> dict[str, Any]:
    """Return the accuracy of each trial of a home at every voxel."""
    files = (home / "artifacts").glob("*/artifacts/accuracy.npy")
    found = {path: TrialRecord.read(path.with_name("record.json")) for path in files}
    return {record.spec.model_dump_json(): np.load(path).tolist() for path, record in found.items()}


def test_two_studies_run_at_once_in_two_homes(finished: Finished, new_home: NewHome) -> None:
    homes = [new_home(name) for name in ("one", "other")]
    at_once([partial(run_study, finished.spec, Home(home)) for home in homes])
    for home in homes:
        assert accuracies(home) == accuracies(finished.home) != {}


FORKS = """
import multiprocessing, sys
import numpy as np
import img2brain

pictures = list(np.random.RandomState(0).randint(0, 256, (3, 50, 40, 3)).astype(np.uint8))
model = img2brain.load_model(sys.argv[1])
expected = model.predict(pictures)


def again(how):
    found = model if how == "same" else img2brain.load_model(sys.argv[1])
    return bool((found.predict(pictures) == expected).all())


if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(pool.map(again, ["same", "another"]))
"""


@pytest.mark.slow
def test_the_child_of_a_fork_predicts(tmp_path: Path) -> None:
    (tmp_path / "forks.py").write_text(FORKS)
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", tmp_path / "forks.py", SAVED],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["[True, True]"]


def test_without_a_fork_a_function_runs_where_it_is_called() -> None:
    assert works_after_fork(threading.get_ident)() == threading.get_ident()


def test_fresh_networks_are_what_torch_draws_and_leave_its_generator_alone() -> None:
    backbone = load_backbone("squeezenet1_1", "random:0")
    before = torch.get_rng_state()
    networks = at_once([partial(build_fresh, backbone, seed) for seed in (0, 1, 0, 1)])
    assert torch.equal(torch.get_rng_state(), before)
    for seed, fresh in zip((0, 1, 0, 1), networks, strict=True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            expected = Torchvision().build("squeezenet1_1", {}).state_dict()
        state = fresh.network.state_dict()
        assert all(torch.equal(state[key], value) for key, value in expected.items())


@pytest.mark.parametrize("fill", [nn.init.normal_, nn.init.uniform_, nn.init.trunc_normal_, nn.init.kaiming_uniform_])
def test_seeded_fills_are_torchs_own(fill: Callable[[torch.Tensor], Any]) -> None:
    found, expected = torch.empty(5, 7), torch.empty(5, 7)
    with SeededFill(3):
        fill(found)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        fill(expected)
    assert torch.equal(found, expected)


def test_threads_agree_on_how_exact_products_are() -> None:
    products, before, inside = Products(), torch.get_float32_matmul_precision(), threading.Event()

    def coarse() -> str:
        with products.of("medium"):
            inside.set()
            return torch.get_float32_matmul_precision()

    def exact() -> str:
        inside.wait()
        with products.of("highest"), products.of("highest"):
            return torch.get_float32_matmul_precision()

    assert at_once([coarse, exact, exact]) == ["medium", "highest", "highest"]
    assert torch.get_float32_matmul_precision() == before


def test_warnings_are_as_before_whichever_thread_ends_last() -> None:
    before, first_is_in, second_is_in, first_is_out = warnings.filters[:], *(threading.Event() for _ in range(3))

    def first() -> None:
        with ignored(UserWarning):
            first_is_in.set()
            second_is_in.wait()
        first_is_out.set()

    def second() -> None:
        first_is_in.wait()
        with ignored(RuntimeWarning):
            second_is_in.set()
            first_is_out.wait()
            warnings.warn("not seen", RuntimeWarning, stacklevel=1)

    at_once([first, second])
    assert warnings.filters[:] == before


def test_a_fork_waits_for_what_all_threads_share() -> None:
    program = """
import os, threading
from img2brain._forks import alone

held, go = threading.Event(), threading.Event()

def hold():
    with alone:
        held.set()
        go.wait(0.2)

thread = threading.Thread(target=hold)
thread.start()
held.wait()
process = os.fork()
if process == 0:
    os._exit(0 if alone.acquire(blocking=False) else 1)
print(os.waitpid(process, 0)[1])
"""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert (ended.stdout, ended.returncode) == ("0\n", 0), ended.stderr
    with alone:
        pass
