"""The pages of the service, each one file that loads nothing from elsewhere."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from importlib.resources import files

from starlette.responses import HTMLResponse

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


@functools.cache
def page(name: str) -> HTMLResponse:
    """Give a page, and let the browser run and load nothing but what it holds.

    Arguments
    ---------
    name : str
        Of a file of this package.

    Returns
    -------
    HTMLResponse
        The page, with its ``Content-Security-Policy``.

    Example
    -------
    >>> page("docs.html").headers["content-security-policy"].partition(";")[0]
    "default-src 'none'"
    """
    text = (files("speechbrain_ext.serve") / name).read_text(encoding="utf-8")
    allowed: dict[str, list[str]] = {"script": [], "style": []}
    for kind, content in _INLINE.findall(text):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        allowed[kind].append(f"'sha256-{digest}'")
    policy = (
        "default-src 'none'; connect-src 'self'; img-src data:; media-src blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        + "; ".join(f"{kind}-src {' '.join(digests)}" for kind, digests in allowed.items())
    )
    headers = {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return HTMLResponse(text, headers=headers)
