"""Where the service is and with which key: given, of the environment, or of a profile.

``profiles.toml`` lies in ``$XDG_CONFIG_HOME/chargehand``, else in ``~/.config/chargehand``:

    [default]
    url = "http://127.0.0.1:8420"
    key = "chk_…"
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from chargehand_client.errors import NotConfigured
from chargehand_client.outgoing import api_key, service_url

DEFAULT = "default"
_EXAMPLES = {
    "CHARGEHAND_URL": "http://127.0.0.1:8420",
    "CHARGEHAND_KEY": "chk_…",
}
VARIABLES = (*_EXAMPLES, "CHARGEHAND_PROFILE")
"""By which the environment says where the service is."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A part of profiles.toml; ``where`` names it in errors. What it leaves out is empty."""

    where: str
    url: str = ""
    # Never in a traceback.
    key: str = ""

    def __repr__(self) -> str:
        return f"<{self.where}>"


def resolved(url: str | None, key: str | None, profile: str | None) -> tuple[str, str]:
    """Address and key: each as it is given, else of ``profile``, else of the environment, else of
    the profile that CHARGEHAND_PROFILE names, else of ``default`` if there is one.

    The key of a profile goes to no other address than its own. Raises NotConfigured.
    """
    of_environment = {name: os.environ.get(name, "") for name in _EXAMPLES}
    if profile is None:
        url = url or of_environment["CHARGEHAND_URL"]
        key = key or of_environment["CHARGEHAND_KEY"]
    if not (url and key):
        found = _profile(profile or os.environ.get("CHARGEHAND_PROFILE", ""))
        url = url or found.url or of_environment["CHARGEHAND_URL"]
        if url and not key and found.key and not _is_same(url, found.url):
            raise NotConfigured(
                f"The key of {found.where} belongs to another address than {service_url(url)}, "
                "and is not sent there. Set CHARGEHAND_KEY to a key for that address, or unset "
                "CHARGEHAND_URL."
            )
        key = key or found.key or of_environment["CHARGEHAND_KEY"]
        _require(found, CHARGEHAND_URL=url, CHARGEHAND_KEY=key)
    return service_url(url), api_key(key)


def _is_same(url: str, other: str) -> bool:
    return bool(other) and service_url(url) == service_url(other)


def _require(profile: Profile, **values: str) -> None:
    for name, value in values.items():
        if not value:
            raise NotConfigured(
                f"{name} is not set, so the client does not know what to call, and "
                f"{profile.where} does not say it. "
                f"Set it, as in: export {name}={_EXAMPLES[name]}"
            )


def path() -> Path:
    """Where the profiles are, whether or not there are any."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    # The specification of XDG wants relative ones ignored. Nor is "~" taken for a folder's name
    # where there is no home: then there are no profiles.
    home = base if os.path.isabs(base) else os.path.expanduser("~/.config")
    return Path(home if os.path.isabs(home) else os.devnull) / "chargehand" / "profiles.toml"


def _profile(name: str) -> Profile:
    """The profile of this name; ``""`` is the default one, which need not be there."""
    file = path()
    where = f"profile {name or DEFAULT!r} of {file}"
    profiles = _read(file)
    if profiles is None and not name:
        return Profile(where)
    found = (profiles or {}).get(name or DEFAULT, None if name else {})
    if not isinstance(found, dict):
        there = ", ".join(sorted(profiles or {})) or "none"
        raise NotConfigured(f"There is no {where}; there are: {there}. Add it, or name another.")
    return _checked(where, cast(Mapping[str, Any], found))


def _checked(where: str, found: Mapping[str, Any]) -> Profile:
    for name, value in found.items():
        if name not in ("url", "key") or not isinstance(value, str):
            raise NotConfigured(
                f"The {where} holds {name!r}, which it may not, or not as text. It may hold, as "
                "text: url, key."
            )
    return Profile(where, **found)


def _read(file: Path) -> Mapping[str, Any] | None:
    """The file's tables; None where there is no file. Raises NotConfigured, and shows no value."""
    # Here, because it takes longer than all else of this module, and few have the file.
    import tomllib

    try:
        with file.open("rb") as opened:
            _require_private(file, os.fstat(opened.fileno()).st_mode)
            return tomllib.load(opened)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise NotConfigured(
            f"The profiles in {file} cannot be read: {error.strerror}. Correct that, or set "
            "CHARGEHAND_URL and CHARGEHAND_KEY."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # Without the cause: its message may quote the file.
        raise NotConfigured(
            f'{file} is not TOML. Write lines like: [default], url = "http://…", key = "chk_…"'
        ) from None


def _require_private(file: Path, mode: int) -> None:
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise NotConfigured(
            f"{file} holds keys, and others than you may open it (mode "
            f"{stat.S_IMODE(mode):04o}), so it is not used. Make it yours alone: chmod 600 {file}"
        )
