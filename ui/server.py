"""The ASGI entry: the pages, a health answer, and headers that keep everything foreign out. Started by `ui.serve`."""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from pathlib import Path

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.runtime.pages_manager import PagesManager

from ui.serve import HEALTH, LOCAL_HOSTS, ROOT, embedding_origins
from ui.uploads import route as uploads

_LOG = logging.getLogger("sparsescope")


def inline_script_hashes() -> list[str]:
    """CSP hashes of the scripts written into Streamlit's own page, read from the installed version."""
    page = (Path(st.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    return [f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts]


def content_security_policy() -> str:
    """What a page may load: only this server's own files, and what the page itself made (blob, data).

    Styles may be inline because Streamlit's own are. ``blob:`` scripts are the v2 components, which the page assembles
    from what this server sent. Plotly's WebGL charts compile their drawing code, hence ``unsafe-eval`` (tried: without it
    they say that WebGL is missing); handlers and scripts written into the page stay refused. No foreign host is named
    anywhere, so no page, chart or token can call home.
    """
    rules = {
        "default-src": ["'self'"],
        "script-src": ["'self'", "blob:", "'unsafe-eval'", *inline_script_hashes()],
        "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:", "blob:"],
        "font-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "worker-src": ["'self'", "blob:"],
        "frame-src": ["'self'"],
        "frame-ancestors": ["'self'", *embedding_origins()],
        "object-src": ["'none'"],
        "base-uri": ["'self'"],
        "form-action": ["'self'"],
    }
    return "; ".join(f"{name} {' '.join(sources)}" for name, sources in rules.items())


class SecurityHeaders:
    """Adds the security headers to every HTTP answer; web sockets pass through."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.headers = {
            "Content-Security-Policy": content_security_policy(),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
        }
        if not embedding_origins():  # it knows no list of origins, so the policy above stands alone where there is one
            self.headers["X-Frame-Options"] = "SAMEORIGIN"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and put the headers on its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        await self.app(scope, receive, send_with_headers)


async def health(_: Request) -> JSONResponse:
    """Says that the server answers. It tells nothing else: it is asked without any login."""
    return JSONResponse({"status": "ok"})


def middleware() -> list[Middleware]:
    """Headers first, so that a refusal carries them too; then the check of the host name asked for."""
    hosts = st.get_option("server.allowedHosts") or list(LOCAL_HOSTS)
    return [Middleware(SecurityHeaders), Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)]


def routes() -> list[Route]:
    """Routes beside the pages."""
    return [Route(HEALTH, health, methods=["GET"]), *uploads.routes()]


def say_fault(error: Exception) -> bool:
    """What a reader sees of a fault in a page: one sentence, no inner details. The whole of it goes to the server's log."""
    _LOG.error("a page stopped with %s", type(error).__name__, exc_info=error)
    st.error(
        "This page stopped because of a fault in Sparsescope itself, not in your results: stored runs are never changed by a page. "
        "The terminal that serves this dashboard shows the fault.",
        icon=":material/error:",
    )
    return True


# The folder of pages must not be read as Streamlit's older kind of navigation: on a fresh server, a deep link would then open
# the page's file alone, without `app.py` around it.
PagesManager.uses_pages_directory = False

app = st.App(ROOT / "app.py", routes=routes(), middleware=middleware(), lifespan=uploads.sweeping, on_script_error=say_fault)
