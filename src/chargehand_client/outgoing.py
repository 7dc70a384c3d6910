"""What goes out: address, key, paths and documents, checked before anything is sent."""

import json
import re
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx2

from chargehand_client.errors import ArgumentRefused, NotConfigured

_URL_EXAMPLE = "http://127.0.0.1:8420"
_LONGEST_IDEMPOTENCY_KEY = 255
# What a header carries unchanged.
_HEADER_TEXT = re.compile(r"[\x21-\x7e]+")


def service_url(text: str) -> str:
    """The service's address without ``/api/v1``. Raises NotConfigured where it is no address."""
    if problem := _url_problem(text):
        shown = re.sub("//[^/]*@", "//", text)
        raise NotConfigured(
            f"{shown!r} is not a URL that Chargehand can have: {problem}. "
            f"Set CHARGEHAND_URL to its address, as in: export CHARGEHAND_URL={_URL_EXAMPLE}"
        )
    return text.rstrip("/").removesuffix("/api/v1").rstrip("/")


def api_key(key: str) -> str:
    """The key, if a header carries it. Raises NotConfigured, without showing it."""
    wrong = next((n for n, letter in enumerate(key, 1) if not _HEADER_TEXT.match(letter)), None)
    if wrong is not None:
        raise NotConfigured(
            f"The key has a character at position {wrong} that no key has (a space, a line break, "
            "a letter that is not ASCII). Copy it to CHARGEHAND_KEY again."
        )
    return key


def is_loopback(url: str) -> bool:
    return httpx2.URL(url).host in {"localhost", "127.0.0.1", "::1"}


def path_of(*parts: object) -> str:
    """A path below ``/api/v1``: names and ids, quoted.

    Raises ArgumentRefused for what would be another path: the service sees it unquoted.
    """
    return "".join(f"/{_quoted(str(part))}" for part in parts)


def encoded(document: Any) -> bytes:
    """A document as JSON. Raises ArgumentRefused for what JSON has no word for."""
    try:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentRefused(
            f"What was given cannot be sent as JSON: {_reason(error)}. Give text, finite numbers, "
            "true, false, None, and lists and dictionaries of them."
        ) from error


def keyed(idempotency_key: str | None) -> dict[str, str]:
    """The idempotency header, with a key of its own where none is given; else ArgumentRefused."""
    key = uuid4().hex if idempotency_key is None else str(idempotency_key)
    if len(key) > _LONGEST_IDEMPOTENCY_KEY or not _HEADER_TEXT.fullmatch(key):
        raise ArgumentRefused(
            f"The idempotency key {key[:60]!r} cannot be sent: it must be 1 to "
            f"{_LONGEST_IDEMPOTENCY_KEY} visible ASCII characters. Leave it out for a key of the "
            "client's own."
        )
    return {"Idempotency-Key": key}


def _url_problem(text: str) -> str | None:
    if any(letter.isspace() for letter in text):
        return "it holds a space or a line break"
    try:
        url = httpx2.URL(text)
        # What the look-up of the name would do, and fail at with an error of its own.
        url.host.encode("idna")
    except (httpx2.InvalidURL, ValueError) as error:
        return _reason(error)
    if url.scheme not in ("http", "https"):
        return "it does not begin with http:// or https://"
    if not url.host:
        return "it names no host"
    if url.port is not None and not 0 < url.port < 65536:
        return f"{url.port} is no port"
    if url.userinfo:
        return "it holds a user or a password, which would be sent in place of the key"
    return "it has a part behind ? or #" if "?" in text or "#" in text else None


def _quoted(part: str) -> str:
    try:
        quoted = quote(part, safe="")
    except UnicodeEncodeError:
        quoted = ""
    if not quoted or "/" in part or part in (".", ".."):
        raise ArgumentRefused(
            f"{part[:60]!r} is no slug and no id, so nothing can have it. Slugs are lower-case "
            "letters, digits and dashes."
        )
    return quoted


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError) and error.encoding == "utf-8":
        return f"character {error.start + 1} of {error.object[:60]!r} is half of a surrogate pair"
    return str(error)
