"""Settings: frozen groups, read once from the environment.

Only ``bootstrap`` and ``cli`` import this. Every variable is named in its field's ``alias``, and
docs/reference/settings.md is made of the fields and of what their groups say. An unknown
``CHARGEHAND_…`` variable or a bad value is refused with its name. Those of ``providers`` may stand
in a file instead, so that keys need not be in the environment.
"""

import os
import re
import tomllib
from collections.abc import Mapping, Sequence, Set
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from chargehand.catalog.providers import VENDORS
from chargehand.kernel.errors import Invalid, Violation


class _Group(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        # What a variable holds may be a secret: no error shows it.
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


def _origins(text: str) -> str:
    for origin in text.split(","):
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin[:100]!r} is not an origin: give scheme, host and port, as in "
                "https://app.example.com, several with commas"
            )
    return text


_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]+)?|https?://\[[0-9a-f:]+\](:[0-9]+)?")
Origins = Annotated[str, AfterValidator(_origins)]


class DatabaseSettings(_Group):
    """How PostgreSQL is reached: 15 or later, by the owner's role or by the two runtime roles."""

    owner_url: str | None = Field(None, alias="DATABASE_URL")
    """The URL of the role that owns the database. Without it, and without the next two, `up` runs
    the embedded server."""
    app_url: str | None = Field(None, alias="CHARGEHAND_APP_URL")
    """The application role's URL; derived from the owner's. Needed where that one is not known."""
    system_url: str | None = Field(None, alias="CHARGEHAND_SYSTEM_URL")
    """The system role's URL, likewise."""
    listen_url: str | None = Field(None, alias="CHARGEHAND_LISTEN_URL")
    """A direct URL for LISTEN, where a pooler stands in front; otherwise the system role's own."""
    pool_size: int = Field(10, alias="CHARGEHAND_POOL_SIZE", ge=2, le=200)
    """Connections in the application's pool, per process."""

    @property
    def is_given(self) -> bool:
        """Whether a server is named: by the owner's URL, or by both runtime roles'."""
        return self.owner_url is not None or None not in (self.app_url, self.system_url)


class EmbeddedSettings(_Group):
    """The PostgreSQL that comes along, which `up` and the demonstration start by themselves."""

    data: Path = Field(Path(".chargehand"), alias="CHARGEHAND_DATA")
    """The folder that it keeps."""
    binaries: Path | None = Field(None, alias="CHARGEHAND_POSTGRES_BINARIES")
    """A folder with other PostgreSQL binaries than those of the installed package."""


class ApiSettings(_Group):
    """The processes that answer over HTTP: `api`, and `up`."""

    host: str = Field("127.0.0.1", alias="CHARGEHAND_HOST")
    """The address that the API listens on."""
    port: int = Field(8420, alias="CHARGEHAND_PORT", ge=0, le=65535)
    """Its port; `0` takes a free one."""
    tiers_file: Path | None = Field(None, alias="CHARGEHAND_TIERS_FILE")
    """A TOML file with the limits of each tier, beside the built-in tiers."""
    max_upload_bytes: int = Field(64_000_000, alias="CHARGEHAND_MAX_UPLOAD_BYTES", ge=1)
    """The largest upload, in bytes."""
    cors_origins: Origins | None = Field(None, alias="CHARGEHAND_CORS_ORIGINS")
    """Origins, with commas, whose pages may follow runs with subscription tokens."""

    @property
    def origins(self) -> frozenset[str]:
        return frozenset((self.cors_origins or "").split(",")) - {""}


class WorkerSettings(_Group):
    """The processes that advance runs: `worker`, and `up`."""

    lease_s: float = Field(10, alias="CHARGEHAND_LEASE_S", ge=0.5, le=600)
    """Seconds without a sign of life after which a run is taken over."""
    concurrency: int = Field(200, alias="CHARGEHAND_CONCURRENCY", ge=2, le=2000)
    """Runs that a worker has in hand at a time."""
    max_losses: int = Field(3, alias="CHARGEHAND_MAX_LOSSES", ge=1, le=1000)
    """Workers that a run may lose between two finished steps before it fails."""
    workspaces: Path | None = Field(None, alias="CHARGEHAND_WORKSPACES")
    """Where a worker unpacks the files of a run; otherwise in a temporary folder."""


def _web_address(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return url.rstrip("/")


def _visible_ascii(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if not text.isascii() or any(letter <= " " or letter == "\x7f" for letter in text):
        raise ValueError("holds a character that no key has: a space, a line break, or no ASCII")
    return key


def _redis_address(url: str) -> str:
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    return url


RedisUrl = Annotated[str, AfterValidator(_redis_address)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
ApiKey = Annotated[SecretStr, AfterValidator(_visible_ascii)]


class ProviderSettings(_Group):
    """Where the vendors of models are, and the installation's keys for them."""

    # SPEC TEN-8, MOD-2
    openai_key: ApiKey | None = Field(None, alias="OPENAI_API_KEY")
    """Your key of OpenAI; connects the providers `openai` and `openai-chat`."""
    openai_url: WebAddress = Field("https://api.openai.com/v1", alias="CHARGEHAND_OPENAI_URL")
    """Where OpenAI's API is."""
    anthropic_key: ApiKey | None = Field(None, alias="ANTHROPIC_API_KEY")
    """Your key of Anthropic; connects the provider `anthropic`."""
    anthropic_url: WebAddress = Field("https://api.anthropic.com", alias="CHARGEHAND_ANTHROPIC_URL")
    """Where Anthropic's API is."""
    google_key: ApiKey | None = Field(None, alias="GOOGLE_AI_API_KEY")
    """Your key of Google's Gemini API; connects the provider `google`."""
    google_url: WebAddress = Field(
        "https://generativelanguage.googleapis.com", alias="CHARGEHAND_GOOGLE_URL"
    )
    """Where Google's Gemini API is."""
    azure_key: ApiKey | None = Field(None, alias="AZURE_OPENAI_API_KEY")
    """Your key of Azure OpenAI; connects, with the next one, the provider `azure`."""
    azure_url: WebAddress | None = Field(None, alias="CHARGEHAND_AZURE_URL")
    """Your resource, as in `https://RESOURCE.openai.azure.com`."""
    azure_api_version: str | None = Field(None, alias="CHARGEHAND_AZURE_API_VERSION")
    """A dated API of Azure's instead of its v1 API."""
    compatible_url: WebAddress | None = Field(None, alias="CHARGEHAND_COMPATIBLE_URL")
    """A server that speaks OpenAI's protocol (vLLM, Ollama, llama.cpp); connects the provider
    `openai-compatible`."""
    compatible_key: ApiKey | None = Field(None, alias="CHARGEHAND_COMPATIBLE_KEY")
    """That server's key, where it wants one."""

    def key_of(self, provider: str) -> SecretStr | None:
        """A vendor's key; ``provider`` is its name in ``catalog.providers``."""
        return self._by_variable()[VENDORS[provider].key_variable]

    def url_of(self, provider: str) -> str | None:
        return self._by_variable()[VENDORS[provider].url_variable]

    def connected(self) -> frozenset[str]:
        """The vendors whose address is known, and whose key where they need one."""
        return frozenset(
            name
            for name, vendor in VENDORS.items()
            if self.url_of(name) and (self.key_of(name) or not vendor.key_needed)
        )

    def _by_variable(self) -> dict[str, Any]:
        return self.model_dump(by_alias=True)


class ModelCallSettings(_Group):
    """How models are called, whatever the provider."""

    # SPEC MOD-2
    timeout_s: float = Field(60, alias="CHARGEHAND_MODEL_TIMEOUT_S", gt=0, le=86_400)
    """Seconds for one call of a model, as a whole."""
    idle_timeout_s: float = Field(30, alias="CHARGEHAND_MODEL_IDLE_TIMEOUT_S", gt=0, le=86_400)
    """Seconds that its answer may be silent once it has begun."""
    retries: int = Field(3, alias="CHARGEHAND_MODEL_RETRIES", ge=0, le=20)
    """Further attempts after a failure that may heal."""
    connections: int | None = Field(None, alias="CHARGEHAND_MODEL_CONNECTIONS", ge=1, le=10_000)
    """Connections per provider and worker; otherwise as many as it may have runs in hand."""


def _hub_address(url: str) -> str:
    try:
        parts = urlsplit(_web_address(url))
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"is no address: {error}") from None
    if not parts.hostname:
        raise ValueError("names no host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a user or a password: a hub knows us by MERCURE_JWT_SECRET")
    return url


HubUrl = Annotated[str, AfterValidator(_hub_address)]
SECRET_BYTES = 32
"""RFC 7518, section 3.2: a key for HS256 is as long as its hash, or longer."""


class MercureSettings(_Group):
    """A Mercure hub that is told, private, what happens in runs; see [Mercure](../mercure.md)."""

    # SPEC EXE-10
    url: HubUrl | None = Field(None, alias="MERCURE_URL")
    """The hub's publish address, as in `https://hub.example/.well-known/mercure`. Workers publish
    to it, and subscription tokens are for it."""
    public_url: HubUrl | None = Field(None, alias="MERCURE_PUBLIC_URL")
    """Where browsers reach the hub; otherwise `MERCURE_URL`."""
    secret: SecretStr | None = Field(None, alias="MERCURE_JWT_SECRET", validate_default=True)
    """The hub's key for HS256, of its publishers and of its subscribers: 32 bytes or more."""

    @field_validator("secret")
    @classmethod
    def _long_enough(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if secret is None:
            if info.data.get("url") is not None:
                raise ValueError(
                    "is missing, and MERCURE_URL is set: give the key of the hub's publishers and "
                    "subscribers, or unset MERCURE_URL"
                )
        elif len(secret.get_secret_value().encode()) < SECRET_BYTES:
            raise ValueError(
                f"is shorter than {SECRET_BYTES} bytes: give the hub, and here, a longer one, as "
                "`openssl rand -hex 32` makes them"
            )
        return secret


class SimulatedSettings(_Group):
    """The model that needs neither a key nor a network, for demonstrations and tests."""

    call_log: Path | None = Field(None, alias="CHARGEHAND_SIMULATED_CALL_LOG")
    """A file to which the simulated model writes each call."""


class Settings(_Group):
    """What concerns several processes."""

    database: DatabaseSettings
    embedded: EmbeddedSettings
    api: ApiSettings
    worker: WorkerSettings
    providers: ProviderSettings
    model_calls: ModelCallSettings
    mercure: MercureSettings
    simulated: SimulatedSettings
    credentials_file: Path | None = Field(None, alias="CHARGEHAND_CREDENTIALS_FILE")
    """A TOML file with any of the variables of providers, by the same names; the environment goes
    before it."""
    redis_url: RedisUrl | None = Field(None, alias="REDIS_URL")
    """Carries wake-ups over Redis instead of LISTEN; needs the extra `redis`."""
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", alias="CHARGEHAND_LOG_LEVEL"
    )
    """The least that the logs tell."""


CLIENT_VARIABLES = {
    "CHARGEHAND_URL": "Where the API is.",
    "CHARGEHAND_KEY": "The API key.",
    "CHARGEHAND_PROFILE": "The profile that has what the two before leave out; otherwise "
    "`default`, where there is one.",
}
"""Read by the client, not by the service; each with its meaning."""


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment. Raises Invalid naming each variable that is wrong."""
    environ = os.environ if environ is None else environ
    known = _known()
    found = {
        name: value
        for name, value in environ.items()
        if value and (name.startswith("CHARGEHAND_") or name in known)
    }
    _refuse_unknown(found, known)
    if path := found.get("CHARGEHAND_CREDENTIALS_FILE"):
        found = {**_credentials(Path(path)), **found}
    try:
        return Settings.model_validate(
            {
                **{
                    name: {a: found[a] for a in _aliases(group) if a in found}
                    for name, group in _groups().items()
                },
                **{a: found[a] for a in _aliases(Settings) if a in found},
            }
        )
    except ValidationError as error:
        wrong = [
            Violation(_variable(e["loc"]), str(e["msg"]).removeprefix("Value error, "))
            for e in error.errors()
        ]
        text = "; ".join(f"{violation.pointer}: {violation.message}" for violation in wrong)
        raise Invalid(f"The settings are not valid. {text}.", code="InvalidSettings") from error


def _variable(place: Sequence[int | str]) -> str:
    """The variable of an error: Pydantic names it, or the field where there was no value."""
    group, name = _groups().get(str(place[0])), str(place[-1])
    field = group.model_fields.get(name) if group is not None else None
    return field.alias if field is not None and field.alias is not None else name


def model_variables() -> frozenset[str]:
    """The variables that say how models are reached and called."""
    groups = (ProviderSettings, ModelCallSettings)
    return frozenset(alias for group in groups for alias in _aliases(group)) | {
        "CHARGEHAND_CREDENTIALS_FILE"
    }


def _groups() -> dict[str, type[_Group]]:
    fields = Settings.model_fields.items()
    return {n: f.annotation for n, f in fields if _is_group(f.annotation)}  # pyright: ignore[reportReturnType]


def _is_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, _Group)


def _aliases(group: type[_Group]) -> list[str]:
    return [field.alias for field in group.model_fields.values() if field.alias]


def _known() -> set[str]:
    return {alias for group in (*_groups().values(), Settings) for alias in _aliases(group)}


def _credentials(path: Path) -> dict[str, str]:
    """The file's variables, which the environment's go before. Raises Invalid; shows no value."""
    where = f"CHARGEHAND_CREDENTIALS_FILE {path}"
    try:
        found = tomllib.loads(path.read_text())
    except OSError as error:
        raise Invalid(
            f"{where} cannot be read: {error.strerror}.", code="InvalidSettings"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # Without the cause: its message quotes the file.
        raise Invalid(
            f'{where} is not TOML. Write lines like: OPENAI_API_KEY = "sk-…"',
            code="InvalidSettings",
        ) from None
    allowed = set(_aliases(ProviderSettings))
    for name, value in found.items():
        if name not in allowed or not isinstance(value, str):
            raise Invalid(
                f"{where} holds {name}, which it may not, or not as text.{_nearest(name, allowed)} "
                f"It may hold, as text: {', '.join(sorted(allowed))}.",
                code="InvalidSettings",
            )
    return {name: value for name, value in found.items() if value}


def _refuse_unknown(found: Mapping[str, str], known: Set[str]) -> None:
    unknown = sorted(set(found) - known - CLIENT_VARIABLES.keys())
    if unknown:
        hints = "".join(_nearest(name, known | CLIENT_VARIABLES.keys()) for name in unknown)
        raise Invalid(
            f"Unknown settings: {', '.join(unknown)}.{hints} "
            f"Known ones: {', '.join(sorted(known))}.",
            code="InvalidSettings",
        )


def _nearest(name: str, known: Set[str]) -> str:
    # Without what all begin with: that alone would make any two alike.
    by_end = {variable.removeprefix("CHARGEHAND_"): variable for variable in known}
    nearest = get_close_matches(name.removeprefix("CHARGEHAND_"), by_end, n=1)
    return f" Did you mean {by_end[nearest[0]]} instead of {name}?" if nearest else ""
