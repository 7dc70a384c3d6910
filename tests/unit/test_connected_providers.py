"""Which vendors an environment connects (MOD-1, MOD-2), and what of an address may be shown."""

import traceback
from pathlib import Path

import pytest

from chargehand import settings
from chargehand.catalog.providers import VENDORS, without_credentials
from chargehand.kernel.errors import Invalid


@pytest.mark.parametrize(
    ("environ", "connected"),
    [
        ({}, set()),
        ({"OPENAI_API_KEY": "k"}, {"openai", "openai-chat"}),
        ({"ANTHROPIC_API_KEY": "k"}, {"anthropic"}),
        ({"GOOGLE_AI_API_KEY": "k"}, {"google"}),
        ({"AZURE_OPENAI_API_KEY": "k"}, set()),
        ({"CHARGEHAND_AZURE_URL": "https://a"}, set()),
        ({"AZURE_OPENAI_API_KEY": "k", "CHARGEHAND_AZURE_URL": "https://a"}, {"azure"}),
        ({"CHARGEHAND_COMPATIBLE_KEY": "k"}, set()),
        ({"CHARGEHAND_COMPATIBLE_URL": "http://a"}, {"openai-compatible"}),
        ({"OPENAI_API_KEY": ""}, set()),
    ],
)
def test_a_vendor_is_connected_by_what_it_needs(
    environ: dict[str, str], connected: set[str]
) -> None:
    assert settings.load(environ).providers.connected() == connected


def test_a_key_may_come_from_the_credentials_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text('ANTHROPIC_API_KEY = "from-file"')
    loaded = settings.load({"CHARGEHAND_CREDENTIALS_FILE": str(file)}).providers
    key = loaded.key_of("anthropic")
    assert loaded.connected() == {"anthropic"}
    assert key is not None
    assert key.get_secret_value() == "from-file"


def test_the_environment_goes_before_the_credentials_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text('OPENAI_API_KEY = "from-file"\nCHARGEHAND_OPENAI_URL = "http://from-file"')
    given = {"CHARGEHAND_CREDENTIALS_FILE": str(file), "OPENAI_API_KEY": "from-environment"}
    loaded = settings.load(given).providers
    key = loaded.key_of("openai")
    assert key is not None
    assert key.get_secret_value() == "from-environment"
    assert loaded.url_of("openai") == "http://from-file"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('OPENAI_API_KY = "sk-canary"', "Did you mean OPENAI_API_KEY instead of OPENAI_API_KY?"),
        ('CHARGEHAND_PORT = "sk-canary"', "holds CHARGEHAND_PORT, which it may not"),
        ("OPENAI_API_KEY = 4711", "holds OPENAI_API_KEY, which it may not, or not as text"),
        ('OPENAI_API_KEY = ["sk-canary"]', "holds OPENAI_API_KEY, which it may not, or not as"),
        ('[OPENAI_API_KEY]\nkey = "sk-canary"', "holds OPENAI_API_KEY, which it may not, or not"),
        ("OPENAI_API_KEY = sk-canary", "is not TOML"),
    ],
)
def test_what_the_credentials_file_may_not_hold_is_refused_and_not_shown(
    tmp_path: Path, line: str, told: str
) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(line)
    with pytest.raises(Invalid) as caught:
        settings.load({"CHARGEHAND_CREDENTIALS_FILE": str(file)})
    assert told in caught.value.message
    shown = "".join(traceback.format_exception(caught.value))
    assert not any(value in shown for value in ("sk-canary", "4711"))


def test_every_vendors_variables_are_settings_of_models() -> None:
    known = settings.model_variables()
    for vendor in VENDORS.values():
        assert {vendor.key_variable, vendor.url_variable} <= known
        # A key stays hidden in whatever shows the settings.
        loaded = settings.load({vendor.key_variable: "hidden", vendor.url_variable: "http://a"})
        assert loaded.providers.url_of(vendor.name) == "http://a"
        assert "hidden" not in repr(loaded)
    assert {"CHARGEHAND_CREDENTIALS_FILE", "CHARGEHAND_MODEL_TIMEOUT_S"} <= known
    assert not known & {"DATABASE_URL", "CHARGEHAND_LEASE_S", "CHARGEHAND_DATA"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pass@host:8000/v1", "https://host:8000/v1"),
        ("https://user:p@ss@host/v1", "https://host/v1"),
        ("no answer of http://token@host/v1/models?key=abc#x at all", None),
        ("https://host/v1/m@il", "https://host/v1/m@il"),
        ("nobody@example.com", "nobody@example.com"),
    ],
)
def test_an_address_is_shown_without_what_opens_it(text: str, shown: str | None) -> None:
    assert without_credentials(text) == (shown or "no answer of http://host/v1/models at all")
