"""Settings: read from the environment, refused by name when they are wrong."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from chargehand import settings
from chargehand.kernel.errors import Invalid


def test_an_empty_environment_gives_the_defaults() -> None:
    loaded = settings.load({})
    assert loaded.database.owner_url is None
    assert loaded.embedded.data == Path(".chargehand")
    assert (loaded.api.host, loaded.api.port) == ("127.0.0.1", 8420)
    assert loaded.log_level == "info"


def test_each_group_reads_its_variables() -> None:
    loaded = settings.load(
        {
            "DATABASE_URL": "postgresql://owner@db/chargehand",
            "CHARGEHAND_POOL_SIZE": "25",
            "CHARGEHAND_DATA": "/srv/chargehand",
            "CHARGEHAND_PORT": "0",
            "CHARGEHAND_LEASE_S": "2.5",
            "CHARGEHAND_SIMULATED_CALL_LOG": "calls.jsonl",
            "CHARGEHAND_LOG_LEVEL": "debug",
        }
    )
    assert loaded.database.owner_url == "postgresql://owner@db/chargehand"
    assert loaded.database.pool_size == 25
    assert loaded.embedded.data == Path("/srv/chargehand")
    assert loaded.api.port == 0
    assert loaded.worker.lease_s == 2.5
    assert loaded.simulated.call_log == Path("calls.jsonl")
    assert loaded.log_level == "debug"


def test_an_empty_variable_counts_as_unset() -> None:
    assert settings.load({"CHARGEHAND_PORT": "", "DATABASE_URL": ""}) == settings.load({})


def test_other_programs_variables_and_the_clients_own_are_left_alone() -> None:
    others = {"PATH": "/bin", "CHARGEHAND_URL": "http://there", "CHARGEHAND_KEY": "key"}
    assert settings.load(others) == settings.load({})


def test_an_unknown_variable_is_refused_by_name_beside_the_known_ones() -> None:
    with pytest.raises(Invalid) as caught:
        settings.load({"CHARGEHAND_PROT": "80"})
    assert caught.value.code == "InvalidSettings"
    assert "Unknown settings: CHARGEHAND_PROT." in caught.value.message
    assert "CHARGEHAND_PORT" in caught.value.message


@pytest.mark.parametrize(
    ("unknown", "hint"),
    [
        ("CHARGEHAND_PROT", " Did you mean CHARGEHAND_PORT instead of CHARGEHAND_PROT?"),
        ("CHARGEHAND_LEASE", " Did you mean CHARGEHAND_LEASE_S instead of CHARGEHAND_LEASE?"),
        ("CHARGEHAND_KEYS", " Did you mean CHARGEHAND_KEY instead of CHARGEHAND_KEYS?"),
        ("CHARGEHAND_DATABASE_URL", " Did you mean DATABASE_URL instead of CHARGEHAND_DATABASE_U"),
        ("CHARGEHAND_XYZZY", " Known ones"),
    ],
)
def test_an_unknown_variable_is_told_with_the_nearest_where_one_is_near(
    unknown: str, hint: str
) -> None:
    with pytest.raises(Invalid) as caught:
        settings.load({unknown: "1"})
    assert caught.value.message.startswith(f"Unknown settings: {unknown}.{hint}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHARGEHAND_PORT", "eighty"),
        ("CHARGEHAND_PORT", "65536"),
        ("CHARGEHAND_LEASE_S", "0"),
        ("CHARGEHAND_POOL_SIZE", "1"),
        ("CHARGEHAND_LOG_LEVEL", "loud"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(name: str, value: str) -> None:
    with pytest.raises(Invalid) as caught:
        settings.load({name: value})
    assert caught.value.code == "InvalidSettings"
    assert name in caught.value.message


def test_every_wrong_variable_is_named_at_once() -> None:
    with pytest.raises(Invalid, match=r"CHARGEHAND_PORT.*CHARGEHAND_LEASE_S"):
        settings.load({"CHARGEHAND_PORT": "x", "CHARGEHAND_LEASE_S": "y"})


def test_settings_do_not_change_after_they_are_read() -> None:
    loaded = settings.load({})
    with pytest.raises(ValidationError, match="frozen"):
        loaded.api.port = 1
