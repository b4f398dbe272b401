"""Run the review page until it is interrupted."""

from __future__ import annotations

import socket

from curate.review import Verdicts
from curate.review.app import build, is_loopback, make_token
from curate.review.rows import Rows
from manifests.errors import UserError


def serve(
    manifest: str,
    verdicts: str,
    *,
    column: str = "",
    near: float | None = None,
    host: str = "127.0.0.1",
    port: int = 8321,
) -> None:
    """Serve the page on `host` and `port` (0: a free one) and print its address; returns when it is interrupted.

    Anybody but this machine needs the token in the printed address. Raises UserError, for a port in use as well.
    """
    import uvicorn

    rows, said = Rows(manifest), Verdicts(verdicts)
    try:
        with open(verdicts, "ab"):
            pass
    except OSError as error:
        raise UserError(f"{verdicts}: verdicts cannot be written there ({error.strerror})") from None
    if column and column not in rows.scores:
        raise UserError(f"--column {column}: the manifest has {', '.join(rows.scores) or 'no scores'}", exit_code=2)
    token = None if is_loopback(host) else make_token()
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        raise UserError(f"{host}:{port}: cannot be listened on ({error.strerror}); take another --port") from None
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}/" + (f"?token={token}" if token else "")
    print(f"{len(rows)} rows; verdicts go to {verdicts}\n{address}", flush=True)
    app = build(rows, said, token=token, column=column, near=near)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])
