"""The routes of uploads. A file arrives in chunks, each streamed to disk; nothing of it is ever held whole in memory.

    POST   /api/uploads              X-Upload-Token, {"name", "bytes"}   ->  {"upload", "received"}
    PUT    /api/uploads/ID?offset=N  the next bytes                      ->  {"received"}
    GET    /api/uploads/ID                                               ->  {"received"}: where to go on after a break
    POST   /api/uploads/ID/finish    ->  {"upload", "name"}, or 202 {"checking"} while it is checked: ask again
    DELETE /api/uploads/ID           gives an unfinished one up

These routes have no session. The right to begin is a token that a page has made, once; the right to go on is the id, which
cannot be guessed. A finished upload can be changed by no route. Refusals are ``{"refusal": one sentence}``.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from analysis.models.files import Refused
from analysis.models.files.arrived import NoRoom, NotAllowed, NotThere, OutOfOrder, TooLarge
from analysis.spec import UserError
from ui.uploads import kept

_LOG = logging.getLogger("sparsescope.uploads")
ROUTE = "/api/uploads"
TOKEN = "x-upload-token"
BLOCK = 2**20
"""Bytes handed to the disk at once."""
_MOST_JSON = 4096
_PATIENCE_S = 5.0
"""Seconds an answer may take before the browser is told that the file is still being checked."""
_STATUS: tuple[tuple[type[Refused], int], ...] = ((NotAllowed, 403), (TooLarge, 413), (NoRoom, 507), (NotThere, 404), (OutOfOrder, 409))

SWEEP_S = 60.0
"""Seconds between two looks for unfinished uploads whose connection has ended."""

Handler = Callable[[Request], Awaitable[JSONResponse]]
_checks: dict[str, asyncio.Task[Any]] = {}
"""Uploads that are being checked now; the server has one event loop, so no lock."""


def routes() -> list[Route]:
    """The routes of uploads."""
    return [
        Route(ROUTE, _answer(begin), methods=["POST"]),
        Route(ROUTE + "/{upload}", _answer(go_on), methods=["GET", "PUT", "DELETE"]),
        Route(ROUTE + "/{upload}/finish", _answer(finish), methods=["POST"]),
    ]


@asynccontextmanager
async def sweeping(_: Any) -> AsyncIterator[None]:
    """While the server is up: from its start on, uploads that nobody goes on with are deleted, so that they hold no room."""
    task = asyncio.create_task(_sweep())
    yield
    task.cancel()


async def _sweep() -> None:
    while True:
        try:
            await run_in_threadpool(lambda: kept.quarantine().sweep())
        except (UserError, OSError) as error:
            _LOG.warning("unfinished uploads could not be swept away: %s", error)
        await asyncio.sleep(SWEEP_S)


def _answer(handler: Handler) -> Handler:
    """The handler behind the check of who asks, its refusals as sentences."""

    async def answer(request: Request) -> JSONResponse:
        try:
            check_origin(request)
            return await handler(request)
        except ClientDisconnect:
            return JSONResponse({"refusal": "the connection was lost."}, 400)  # nobody hears it
        except UserError as error:
            status = next((status for kind, status in _STATUS if isinstance(error, kind)), 422)
            return JSONResponse({"refusal": str(error)}, status)

    return answer


def check_origin(request: Request) -> None:
    """Refuse what a page of another site asks for. Browsers say where a request comes from in headers no page can change."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc.casefold() != request.headers.get("host", "").casefold()
    if site != "same-origin" or foreign:
        raise NotAllowed("an upload must come from a page of this app, got a request of another site; open the app itself.")


async def begin(request: Request) -> JSONResponse:
    """A new upload."""
    asked = await _small_json(request)
    name, size = asked.get("name"), asked.get("bytes")
    if not isinstance(name, str) or type(size) is not int:
        raise Refused("an upload must begin with a name and a number of bytes, got a request without; reload the page.")
    upload = await run_in_threadpool(kept.quarantine().begin, request.headers.get(TOKEN, ""), name, size)
    return JSONResponse({"upload": upload, "received": 0}, 201)


async def _small_json(request: Request) -> dict[str, Any]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_JSON:
            raise TooLarge(f"a request must have at most {_MOST_JSON:,} bytes, got more; reload the page.")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused("a request must be JSON, got something else; reload the page.") from error
    return found if isinstance(found, dict) else {}


async def go_on(request: Request) -> JSONResponse:
    """The next bytes, a question how many have arrived, or the end of an unfinished upload."""
    upload, uploads = request.path_params["upload"], kept.quarantine()
    received = await run_in_threadpool(uploads.received, upload)  # only unfinished ones have any
    if request.method == "PUT":
        return await _write(request, upload)
    if request.method == "DELETE":
        await run_in_threadpool(uploads.discard, upload)
    return JSONResponse({"received": received})


async def _write(request: Request, upload: str) -> JSONResponse:
    """The body appended at the offset the address names, block by block."""
    text = request.query_params.get("offset", "")
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise Refused("a chunk must say at which byte it begins, got a request without an offset; reload the page.")
    write, offset, block = kept.quarantine().write, int(text), bytearray()
    async for chunk in request.stream():
        block += chunk
        if len(block) >= BLOCK:
            offset = await run_in_threadpool(write, upload, offset, bytes(block))
            block.clear()
    return JSONResponse({"received": await run_in_threadpool(write, upload, offset, bytes(block))})


async def finish(request: Request) -> JSONResponse:
    """The check of a complete upload: begun by the first request, joined by every further one until it is over."""
    upload = request.path_params["upload"]
    task = _checks.get(upload)
    if task is None:
        task = _checks[upload] = asyncio.create_task(run_in_threadpool(_finished, upload))
    done, _ = await asyncio.wait([task], timeout=_PATIENCE_S)
    if not done:
        return JSONResponse({"checking": True}, 202)
    _checks.pop(upload, None)
    return JSONResponse(task.result())


def _finished(upload: str) -> dict[str, str]:
    if not kept.has_arrived(upload):  # asked again by a browser that has not heard the answer: it has been checked
        kept.quarantine().finish(upload)
        kept.check(upload)
    found = kept.quarantine().get(upload)
    return {"upload": found.id, "name": found.name}
