"""Features of the networks of a study, computed one network after another: before its trials, or beside them."""

from __future__ import annotations

import contextvars
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from img2brain.errors import FeatureError, lack_of
from img2brain.features.features import Features
from img2brain.progress import Stopped, stoppable
from img2brain.study.networks import is_of_the_network

log = logging.getLogger(__name__)

_PATIENCE_S = 30.0  # for the batch that is at work when a pass is stopped


class NotYet(Exception):  # noqa: N818 - it is no error: who meets it waits, and does again what it did
    """The features of a network are not there yet.

    Parameters
    ----------
    network : int
        The place of the network in the study.
    """

    def __init__(self, network: int) -> None:
        super().__init__(network)
        self.network = network


class Extraction:
    """The features of some networks, computed one network after another.

    Parameters
    ----------
    networks : sequence of sequence of Features
        Of each network, the features of each member of the study. One of several networks that fails for a reason of
        its own is given up: its trials fail with that reason.

    Attributes
    ----------
    seconds : float
        How long it took so far.
    """

    def __init__(self, networks: Sequence[Sequence[Features]]) -> None:
        self._networks = networks
        self.seconds = 0.0
        self._waiting: deque[int] = deque()
        self._unready: set[int] = set()
        self._failure: BaseException | None = None
        self._stop, self._thread = threading.Event(), threading.Thread()
        self._changed = threading.Condition()

    def now(self, in_any_order: bool = False, at_once: int = 1) -> None:
        """Compute the features of all networks.

        Parameters
        ----------
        in_any_order : bool
            Whether to begin with any network: workers that come at once then share them out. One waits for another
            that is at the same network.
        at_once : int
            How many networks images pass at once, where they do so elsewhere.

        Raises
        ------
        FeatureError
            If the only network fails.
        StoreError, ResourceError
            If the cache cannot be written, or memory gives out.
        """
        if at_once == 1:
            for network in self._order(in_any_order):
                self._compute(network)
            return
        with ThreadPoolExecutor(at_once) as pool:
            order = self._order(in_any_order)
            asked = [pool.submit(contextvars.copy_context().run, self._compute, network) for network in order]
            try:
                for each in asked:
                    each.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    @contextmanager
    def beside(self, in_any_order: bool = False) -> Iterator[None]:
        """Compute them in a thread, for as long as the context lasts; what is not begun by then is left.

        Parameters
        ----------
        in_any_order : bool
            As for `now`.
        """
        self._waiting = deque(self._order(in_any_order))
        self._unready, self._failure = set(self._waiting), None
        self._stop = threading.Event()
        work = partial(contextvars.copy_context().run, self._work)
        self._thread = threading.Thread(target=work, name="features", daemon=True)
        self._thread.start()
        try:
            yield
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop computing beside what else goes on: from here on, features that are missing are computed when asked."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_S)
        self._unready = set()

    def require(self, network: int) -> None:
        """Raise `NotYet` where the features of a network are being computed, or are to be, beside what asks."""
        with self._changed:
            if network in self._unready:
                raise NotYet(network)

    def wait(self, network: int) -> None:
        """Wait for the features of a network, which is the next one to be computed.

        Raises
        ------
        Exception
            What stopped the computation, if anything did.
        """
        with self._changed:
            if network in self._waiting:
                self._waiting.remove(network)
                self._waiting.appendleft(network)
            self._changed.wait_for(lambda: network not in self._unready or self._failure)
            if self._failure is not None:
                raise self._failure

    def _order(self, in_any_order: bool) -> Sequence[int]:
        networks = range(len(self._networks))
        return random.sample(networks, len(networks)) if in_any_order else networks

    def _work(self) -> None:
        try:
            with stoppable(self._stop):
                while self._waiting and not self._stop.is_set():
                    self._next()
        except Stopped:
            log.debug("no trial needs the features of other networks")
        except BaseException as failure:  # whatever it is, who waits is told
            with self._changed:
                self._failure = failure
                self._changed.notify_all()

    def _next(self) -> None:
        with self._changed:
            network = self._waiting.popleft()
        self._compute(network)
        with self._changed:
            self._unready.discard(network)
            self._changed.notify_all()

    def _compute(self, network: int) -> None:
        start = time.perf_counter()
        for features in self._networks[network]:
            try:
                features.extract()
            except FeatureError as error:
                if len(self._networks) == 1 or lack_of(error) or not is_of_the_network(error):
                    raise
                log.warning("%s is given up, and its trials fail: %s", features.spec.name, error)
                features.give_up(error)
        self.seconds += time.perf_counter() - start
