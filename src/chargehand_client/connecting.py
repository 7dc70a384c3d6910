"""What both connections have of httpx2: how it is set up, and what its answers and errors mean."""

from typing import Any

import httpx2

from chargehand_client.errors import NotConfigured
from chargehand_client.outgoing import is_loopback
from chargehand_client.requests import Request
from chargehand_client.retries import another_service

# The service sends a heartbeat at least every 15 s and waits 60 s at most.
_TIMEOUT = httpx2.Timeout(75.0, connect=5.0)


def settings(url: str, key: str) -> dict[str, Any]:
    """What a client is made with."""
    return {
        "base_url": f"{url}/api/v1",
        "headers": {"Authorization": f"Bearer {key}"},
        "timeout": _TIMEOUT,
        # A proxy of the environment cannot reach what listens on this machine only.
        "trust_env": not is_loopback(url),
    }


def unusable(error: Exception) -> NotConfigured:
    """For what making a client raises, see UNUSABLE."""
    return NotConfigured(
        f"The proxy or the certificates that the environment names cannot be used: {error}. "
        "Look at HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR."
    )


UNUSABLE = (OSError, ValueError, ImportError, httpx2.InvalidURL)


def built(http: httpx2.Client | httpx2.AsyncClient, request: Request) -> httpx2.Request:
    return http.build_request(
        request.method,
        request.path,
        params=request.parameters or None,
        headers=request.headers,
        content=request.content,
    )


def may_have_arrived(error: httpx2.TransportError) -> bool:
    return not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)


def document_of(response: httpx2.Response, url: str) -> Any:
    """The answer's document; None where it has none. Raises Unreachable where it is no JSON."""
    if response.status_code == 204:
        return None
    try:
        return response.json()
    except ValueError as error:
        raise stranger(response, url) from error


def stranger(response: httpx2.Response, url: str) -> Exception:
    return another_service(url, response.status_code, response.headers.get("Content-Type"))
