"""A registered model behind HTTP: MLflow's own server, in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from img2brain.errors import ModelError
from img2brain.home import Home
from img2brain.model import EncodingModel
from img2brain.registered import load_plugin
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.registry import Registry
from img2brain.tracking.server import require_free

MAX_REQUEST_BYTES = 2**27
_GRACE_S = 10  # for requests that are being answered when the server is told to end

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def serve_model(
    reference: str,
    home: Home | Path | str = "mlruns",
    host: str = "127.0.0.1",
    port: int = 5001,
    tell: Callable[[str], None] = print,
    plugins: Sequence[str] = (),
) -> None:
    """Serve a registered model over HTTP until the process is told to end; it has to do nothing else.

    Parameters
    ----------
    reference : str
        ``"NAME@champion"``, ``"NAME/VERSION"`` or ``"NAME"``.
    home : Home, Path or str
        The home that it is registered in, or its folder.
    host, port : str, int
        Where to listen.
    tell : callable
        Told the address of the model, when it answers.
    plugins : sequence of str
        Components of others that the model needs, ``PATH.py:NAME`` each.

    Raises
    ------
    ModelError
        If there is no such model, its files were changed, or it computes something else than when it was saved.
    TrackingError
        If the port is taken.
    """
    require_free(host, port)
    for plugin in plugins:
        load_plugin(plugin)
    place = home if isinstance(home, Home) else Home.existing(home)
    registry = Registry(TrackingStore(place))
    with registry.files(registry.find(reference)) as folder:
        EncodingModel.load(folder, place.plugins).check()
        _run(_application(folder.parents[1]), host, port, tell)


def _application(whole: Any) -> Any:
    from mlflow import pyfunc
    from mlflow.pyfunc import scoring_server

    from img2brain.answers import refuse_on_one_line

    if not (whole / "MLmodel").is_file():
        raise ModelError(f"{whole} holds no model of MLflow.")
    refuse_on_one_line()
    return within_bytes(scoring_server.init(pyfunc.load_model(str(whole))))


def _run(application: Any, host: str, port: int, tell: Callable[[str], None]) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        """Says where it is when it answers."""

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                tell(f"http://{host}:{port}/invocations")

    Server(
        uvicorn.Config(
            application, host=host, port=port, log_level="error", access_log=False, timeout_graceful_shutdown=_GRACE_S
        )
    ).run()


def within_bytes(application: Any, most: int = MAX_REQUEST_BYTES) -> Any:
    """Refuse a request of more bytes than that before it is in memory."""

    async def limited(scope: Message, receive: Receive, send: Send) -> None:
        n_read = 0

        async def counted() -> Message:
            nonlocal n_read
            message = await receive()
            n_read += len(message.get("body", b""))
            _require_few(n_read, most)
            return message

        try:
            _require_few(_announced(scope), most)
            await application(scope, counted, send)
        except _TooLargeError:
            await _refuse(send, most)

    return limited


class _TooLargeError(Exception):
    """A request has too many bytes."""


def _require_few(n_bytes: int, most: int) -> None:
    if n_bytes > most:
        raise _TooLargeError


def _announced(scope: Message) -> int:
    length = dict(scope.get("headers", ())).get(b"content-length", b"0")
    return int(length) if length.isdigit() and len(length) < 20 else 0


async def _refuse(send: Send, most: int) -> None:
    body = f'{{"error_code": "BAD_REQUEST", "message": "A request must have at most {most} bytes."}}'.encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
