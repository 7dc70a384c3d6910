"""What acceptance tests share: both clients, the command line in their own process, a service."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TestDatabase
from tests.factories.awaited import AwaitedChargehand
from tests.factories.commands import Command, Told, environment
from tests.factories.databases import Databases
from tests.factories.restartable import RestartableService, restartable_service

from chargehand.cli.main import main
from chargehand_client import Chargehand


@pytest.fixture(params=[Chargehand, AwaitedChargehand], ids=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Any:
    """Makes a client: ``connect(url, key)`` is a Chargehand, or what looks like one."""
    return request.param


@pytest.fixture(scope="session")
def lasting_service(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RestartableService]:
    """For the tests that do it no harm; each calls it from an organization of its own.

    To start a service takes longer than most of them do.
    """
    database = TestDatabase(*databases.take())
    with restartable_service(database, tmp_path_factory.mktemp("service")) as running:
        yield running
    databases.give_back(database.owner_url)


@pytest.fixture
def chargehand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """The command in this process, which is enough, and fast, where it ends by itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # which a command sets

    def run(*arguments: str, **given: str) -> Told:
        with monkeypatch.context() as changed:
            for name in os.environ.keys() - environment().keys():
                changed.delenv(name)
            for name, value in {**environment(), **given}.items():
                changed.setenv(name, value)
            changed.setattr(sys, "argv", ["chargehand", *arguments])
            with pytest.raises(SystemExit) as ended:
                main()
        return Told(ended.value.code, *capsys.readouterr())

    return run
