"""The application as far as its description goes: nothing behind it is connected."""

from typing import Any

from chargehand.agents.installed import AVAILABLE, Installed
from chargehand.entrypoints.api import ApiParts, create_app


def described_app() -> Any:
    """An application that cannot serve, and can be asked for its routes and its document."""
    nothing: dict[str, Any] = {
        name: None for name in ApiParts.__slots__ if name not in ("installed", "availabilities")
    }
    installed = Installed(AVAILABLE, frozenset())
    return create_app(ApiParts(**{**nothing, "installed": installed, "max_upload_bytes": 1}))
