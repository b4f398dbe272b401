"""The server behind the review page: a few answers about rows, their images, and a place to say a verdict."""

from __future__ import annotations

import getpass
import hmac
import ipaddress
import json
import os
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from curate.review import VERDICTS, Verdicts
from curate.review.rows import Query, Rows
from manifests import images
from manifests.errors import UserError

Next = Callable[[Request], Awaitable[Response]]
LABELS = 400  # rows that the list asks about at once, at most
COOKIE = "equimix_review"


def build(
    rows: Rows, verdicts: Verdicts, *, token: str | None = None, column: str = "", near: float | None = None
) -> Starlette:
    """The app. token: what a browser must bring once in the URL; None where only this machine can reach it.

    column, near: what the page is ordered by at first.
    """
    page = _page(json.dumps({"column": column, "near": near, "reviewer": _person() if token is None else ""}))

    def facts(_: Request) -> Response:
        verdicts.refresh()
        return JSONResponse({**rows.facts(), "said": verdicts.counts(), "disputed": verdicts.disputed()[:1000]})

    def found(request: Request) -> Response:
        asked = request.query_params
        try:
            low, high, near = (float(asked[name]) if asked.get(name) else None for name in ("low", "high", "near"))
        except ValueError as error:
            return PlainTextResponse(f"not a number: {error}", 400)
        task, reason, status, by = (asked.get(name, "") for name in ("task", "reason", "status", "column"))
        ids = rows.find(
            Query(task, reason, status, by, low, high, near, asked.get("descending") == "1", asked.get("pairs", ""))
        )
        if asked.get("state") == "open":
            verdicts.refresh()
            said = {pair for pair, mine in verdicts.latest.items() if mine}
            if said:
                ids = ids[[rows.pair_id(row) not in said for row in ids.tolist()]]
        elif asked.get("state") == "disputed":
            disputed = set(verdicts.disputed())
            ids = ids[[rows.pair_id(row) in disputed for row in ids.tolist()]]
        return Response(ids.astype("<i4").tobytes(), media_type="application/octet-stream")

    def labels(request: Request) -> Response:
        given = request.query_params.get("rows", "").split(",")
        wanted = [int(one) for one in given if one.isdecimal()][:LABELS]
        column = request.query_params.get("column", "")
        out = [rows.label(row, column) for row in wanted if 0 <= row < len(rows)]
        return JSONResponse([{**one, "said": verdicts.of(one["pair_id"])} for one in out])

    def detail(request: Request) -> Response:
        row = request.path_params["row"]
        if not 0 <= row < len(rows):
            return PlainTextResponse("no such row", 404)
        found = rows.detail(row)
        return JSONResponse({**found, "said": verdicts.of(found["pair_id"])})

    def image(request: Request) -> Response:
        row, side = request.path_params["row"], request.path_params["side"]
        if not 0 <= row < len(rows) or side not in ("lq", "gt"):
            return PlainTextResponse("no such image", 404)
        try:
            there = rows.image(row, side)
        except (OSError, images.ImageError) as error:
            return PlainTextResponse(f"cannot be shown: {error}", 422)
        if there is None:
            return PlainTextResponse("no such image", 404)
        return Response(there[0], media_type=there[1], headers={"Cache-Control": "private, max-age=3600"})

    def thumbnail(request: Request) -> Response:
        row = request.path_params["row"]
        try:
            small = rows.thumbnail(row) if 0 <= row < len(rows) else None
        except (OSError, images.ImageError):
            small = None
        if small is None:
            return PlainTextResponse("no such image", 404)
        return Response(small, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    async def say(request: Request) -> Response:
        try:
            body = await request.json()
            row, verdict, reviewer = body["row"], body["verdict"], body["reviewer"]
            if type(row) is not int or not 0 <= row < len(rows) or verdict not in VERDICTS:
                raise ValueError(f"row {row}, verdict {verdict}")
            if not isinstance(reviewer, str) or not reviewer.strip():
                raise ValueError("say who you are first: 'you', at the top")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return PlainTextResponse(f"not a verdict: {error}", 400)
        verdicts.add(rows.pair_id(row), verdict, reviewer)
        return JSONResponse({"said": verdicts.of(rows.pair_id(row)), "counts": verdicts.counts()})

    routes = [
        Route("/", lambda _: HTMLResponse(page)),
        Route("/api/facts", facts),
        Route("/api/rows", found),
        Route("/api/labels", labels),
        Route("/api/row/{row:int}", detail),
        Route("/api/verdict", say, methods=["POST"]),
        Route("/image/{row:int}/{side}", image),
        Route("/thumbnail/{row:int}", thumbnail),
    ]

    def failed(_: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), 500)

    handlers: dict[Any, Any] = {UserError: failed, OSError: failed}
    return Starlette(routes=routes, middleware=[Middleware(_Guard, token=token)], exception_handlers=handlers)


class _Guard(BaseHTTPMiddleware):
    """Lets nobody in but this machine's own browser, or who has the token; and no other page in that browser."""

    def __init__(self, app: Any, token: str | None) -> None:
        super().__init__(app)
        self._token = token

    async def dispatch(self, request: Request, call_next: Next) -> Response:
        if self._token is None:
            if not is_loopback(request.url.hostname or ""):
                return PlainTextResponse("this page is for this machine alone", 403)
        elif (given := request.query_params.get("token")) is not None:
            if not _same(given, self._token):
                return PlainTextResponse("wrong token", 403)
            answer: Response = RedirectResponse(request.url.remove_query_params("token"), 303)
            answer.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            return answer
        elif not _same(request.cookies.get(COOKIE, ""), self._token):
            return PlainTextResponse("open the address that 'curate review' printed, with its token", 403)
        origin = request.headers.get("origin")
        if request.method == "POST" and origin is not None and origin != f"{request.url.scheme}://{request.url.netloc}":
            return PlainTextResponse("another page may not say verdicts", 403)
        return await call_next(request)


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), token.encode())


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def make_token() -> str:
    """A token that cannot be guessed."""
    return secrets.token_urlsafe(24)


def _person() -> str:
    """Who sits at this machine; nobody where that is not known."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _page(settings: str) -> str:
    with open(os.path.join(os.path.dirname(__file__), "page.html"), encoding="utf-8") as file:
        return file.read().replace("/*SETTINGS*/null", settings)
