"""Where the client finds its address and key."""

import os
from pathlib import Path

import pytest

from chargehand_client import NotConfigured
from chargehand_client.profiles import resolved

HERE, KEY = "http://127.0.0.1:8420", "chk_default"
STAGING, STAGING_KEY = "https://staging.example", "chk_staging"
PROFILES = f"""
[default]
url = "{HERE}"
key = "{KEY}"

[staging]
url = "{STAGING}/api/v1"
key = "{STAGING_KEY}"

[keyless]
url = "{STAGING}"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CHARGEHAND_URL", "CHARGEHAND_KEY", "CHARGEHAND_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "chargehand" / "profiles.toml"
    file.parent.mkdir()
    file.write_text(PROFILES)
    file.chmod(0o600)
    return file


def test_without_anything_it_is_the_default_profile(file: Path) -> None:
    assert resolved(None, None, None) == (HERE, KEY)


def test_a_profile_is_named_by_an_argument_else_by_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolved(None, None, "staging") == (STAGING, STAGING_KEY)
    monkeypatch.setenv("CHARGEHAND_PROFILE", "staging")
    assert resolved(None, None, None) == (STAGING, STAGING_KEY)
    assert resolved(None, None, "default") == (HERE, KEY)


def test_arguments_go_before_a_named_profile_and_that_before_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARGEHAND_URL", "http://environment.example")
    monkeypatch.setenv("CHARGEHAND_KEY", "chk_environment")
    assert resolved(None, None, None) == ("http://environment.example", "chk_environment")
    assert resolved(None, None, "staging") == (STAGING, STAGING_KEY)
    assert resolved(None, None, "keyless") == (STAGING, "chk_environment")
    assert resolved(None, "chk_argument", "staging") == (STAGING, "chk_argument")
    assert resolved("http://argument.example", None, None)[0] == "http://argument.example"


def test_the_environment_goes_before_the_profile_that_it_names(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARGEHAND_PROFILE", "staging")
    monkeypatch.setenv("CHARGEHAND_KEY", "chk_environment")
    assert resolved(None, None, None) == (STAGING, "chk_environment")
    monkeypatch.setenv("CHARGEHAND_URL", "http://environment.example")
    assert resolved(None, None, None) == ("http://environment.example", "chk_environment")


def test_with_both_given_the_file_is_not_even_opened(file: Path) -> None:
    file.write_text("not TOML")
    file.chmod(0o666)
    assert resolved(HERE, KEY, None) == (HERE, KEY)


def test_a_profiles_key_goes_to_its_own_address_only(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARGEHAND_URL", "http://elsewhere.example")
    monkeypatch.setenv("CHARGEHAND_PROFILE", "staging")
    with pytest.raises(NotConfigured, match=r"belongs to another address.*CHARGEHAND_KEY") as told:
        resolved(None, None, None)
    assert STAGING_KEY not in told.value.message
    with pytest.raises(NotConfigured, match="belongs to another address"):
        resolved("http://elsewhere.example", None, "staging")
    monkeypatch.setenv("CHARGEHAND_URL", f"{STAGING}/")
    assert resolved(None, None, None) == (STAGING, STAGING_KEY)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_file_that_others_may_open_is_refused_with_the_remedy(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(NotConfigured, match=f"mode {mode:04o}.*chmod 600 {file}") as told:
        resolved(None, None, None)
    assert KEY not in told.value.message


def test_a_profile_that_is_not_there_is_told_with_those_that_are(file: Path) -> None:
    with pytest.raises(NotConfigured, match=r"no profile 'stagin' of .*: default, keyless, stag"):
        resolved(None, None, "stagin")
    file.unlink()
    with pytest.raises(NotConfigured, match=r"no profile 'staging' of .*there are: none"):
        resolved(None, None, "staging")


@pytest.mark.parametrize("gone", ["file", "folder", "home"])
def test_where_there_are_no_profiles_the_variables_are_asked_for(
    file: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    file.unlink()
    if gone == "folder":
        monkeypatch.setenv("XDG_CONFIG_HOME", os.devnull)
    if gone == "home":
        monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
        monkeypatch.setenv("HOME", str(file.parent))
    with pytest.raises(NotConfigured, match=r"CHARGEHAND_URL is not set.*export CHARGEHAND_URL="):
        resolved(None, None, None)


def test_what_a_profile_leaves_out_is_asked_for(file: Path) -> None:
    with pytest.raises(NotConfigured, match=r"CHARGEHAND_KEY is not set.*profile 'keyless' of"):
        resolved(None, None, "keyless")
    assert resolved(None, KEY, "keyless") == (STAGING, KEY)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[default]\nurl = http://x\nkey = 'chk_secret'", "is not TOML"),
        ("[default]\nkye = 'chk_secret'", "'kye', which it may not"),
        ("[default]\nkey = ['chk_secret']", "'key', which it may not, or not as text"),
        ("default = 'chk_secret'", "There is no profile"),
    ],
)
def test_a_file_that_is_wrong_is_told_without_what_is_in_it(
    file: Path, text: str, told: str
) -> None:
    file.write_text(text)
    with pytest.raises(NotConfigured, match=told) as refused:
        resolved(None, None, None)
    assert "chk_secret" not in refused.value.message
    assert refused.value.__cause__ is None


def test_the_configuration_is_that_of_xdg_else_of_the_home(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home" / ".config" / "chargehand"
    home.mkdir(parents=True)
    (home / "profiles.toml").write_text(PROFILES.replace(KEY, "chk_home"))
    (home / "profiles.toml").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert resolved(None, None, None)[1] == KEY
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert resolved(None, None, None)[1] == "chk_home"
