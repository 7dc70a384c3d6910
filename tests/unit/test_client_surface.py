"""Both clients are alike, complete, and typed as the service answers."""

import ast
import inspect
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from tests.factories.described import described_app

from chargehand.agents import schemas as agents
from chargehand.catalog import schemas as catalog
from chargehand.executions import schemas as executions
from chargehand.storage import schemas as storage
from chargehand.tenancy import schemas as tenancy
from chargehand_client import (
    AsyncChargehand,
    AsyncEventStream,
    AsyncRun,
    Chargehand,
    EventStream,
    Run,
    documents,
    options,
)
from chargehand_client.executions import Execution, Usage

SOURCES = Path(documents.__file__).parent

METHODS = {
    "list_agents": "agents",
    "get_agent": "agent",
    "create_agent": "create_agent",
    "validate_agent": "validate_agent",
    "update_agent": "update_agent",
    "publish_agent": "publish_agent",
    "activate_agent": "activate_agent",
    "deactivate_agent": "deactivate_agent",
    "delete_agent": "delete_agent",
    "list_agent_versions": "agent_versions",
    "get_agent_version": "agent_version",
    "execute_agent": "run",
    "test_agent": "run",  # with draft=True
    "list_executions": "executions",
    "get_execution": "execution",
    "list_execution_steps": "steps",
    "list_execution_logs": "logs",
    "follow_execution": "follow",
    "follow_user": "follow_user",
    "cancel_execution": "cancel",
    "pause_execution": "pause",
    "resume_execution": "resume",
    "kill_execution": "kill",
    "delete_execution": "kill",
    "send_input": "send_input",
    "approve_call": "approve",
    "deny_call": "deny",
    "retry_execution": "retry",
    "fork_execution": "fork",
    "send_event": "send_event",
    "make_execution_subscription_token": "subscription_token",
    "make_user_subscription_token": "subscription_token",
    "create_upload": "upload_folder",
    "list_uploads": "uploads",
    "get_upload": "upload",
    "download_upload": "download",
    "delete_upload": "delete_upload",
    "get_me": "me",
    "list_keys": "keys",
    "make_key": "create_key",
    "revoke_key": "revoke_key",
    "list_members": "members",
    "list_models": "models",
    "list_providers": "providers",
}
"""Which method stands for which operation of the API."""

DOCUMENTS: dict[type, type[BaseModel]] = {
    documents.Notice: agents.Notice,
    documents.Draft: agents.Draft,
    documents.AgentSummary: agents.AgentSummary,
    documents.Agent: agents.AgentView,
    documents.AgentValidation: agents.AgentValidation,
    documents.AgentDeletion: agents.AgentDeletion,
    documents.VersionSummary: agents.VersionSummary,
    documents.Version: agents.VersionView,
    documents.TokenCounts: executions.TokenCounts,
    documents.Step: executions.StepView,
    documents.Subscription: executions.Subscription,
    documents.EventDelivered: executions.EventDelivered,
    documents.WaitedCall: executions.WaitedCall,
    documents.Waiting: executions.WaitView,
    documents.Origin: executions.OriginView,
    documents.Log: executions.LogView,
    documents.UploadedFile: storage.UploadedFile,
    documents.UploadSummary: storage.UploadSummary,
    documents.Upload: storage.UploadOut,
    documents.Key: tenancy.Key,
    documents.NewKey: tenancy.NewKey,
    documents.OrganizationSummary: tenancy.OrganizationSummary,
    documents.UserSummary: tenancy.UserSummary,
    documents.TierLimits: tenancy.TierLimits,
    documents.KeySummary: tenancy.KeySummary,
    documents.Me: tenancy.Me,
    documents.Member: tenancy.Member,
    documents.ModelParameter: catalog.ModelParameter,
    documents.ModelPrices: catalog.ModelPrices,
    documents.Model: catalog.ModelView,
    documents.ProviderAvailability: catalog.ProviderAvailability,
    documents.Provider: catalog.ProviderView,
}


NOT_FOR_THE_CLIENT = {"get_openapi", "healthz", "readyz", "follow_topic"}


@pytest.fixture(scope="module")
def operations() -> dict[str, Any]:
    """By operation id, as the service describes them."""
    paths = described_app().openapi()["paths"].values()
    found = {each["operationId"]: each for path in paths for each in path.values()}
    return {name: each for name, each in found.items() if name not in NOT_FOR_THE_CLIENT}


def public(kind: type) -> dict[str, Any]:
    members = inspect.getmembers(kind, callable)
    return {name: member for name, member in members if not name.startswith("_")}


def signature(member: Any) -> str:
    """Without what makes it asynchronous."""
    text = str(inspect.signature(member)).replace("collections.abc.", "")
    text = re.sub(r"AsyncGenerator\[(.*), None\]$", r"Generator[\1, None, None]", text)
    return re.sub(r"\bAsync(?=[A-Z])", "", text).replace(
        "chargehand_client.aio.", "chargehand_client.sync."
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(Chargehand, AsyncChargehand), (Run, AsyncRun), (EventStream, AsyncEventStream)],
)
def test_both_clients_have_the_same_methods_signatures_and_descriptions(
    ours: type, theirs: type
) -> None:
    blocking, waiting = public(ours), public(theirs)
    assert blocking.keys() == waiting.keys()
    for name, member in blocking.items():
        assert signature(member) == signature(waiting[name]), name
        assert member.__doc__, name
        assert member.__doc__ == waiting[name].__doc__, name
        iterates = "Iterator" in str(inspect.signature(member))
        is_stream = name in ("stream", "follow", "follow_user")
        assert inspect.iscoroutinefunction(waiting[name]) != (iterates or is_stream), name


def test_both_clients_are_made_alike() -> None:
    assert signature(Chargehand.__init__) == signature(AsyncChargehand.__init__)


def test_every_operation_of_the_service_has_a_method(operations: dict[str, Any]) -> None:
    assert operations.keys() - METHODS.keys() == set(), (
        "a method, and a line in METHODS, is missing"
    )
    assert METHODS.keys() - operations.keys() == set()
    assert set(METHODS.values()) <= public(Chargehand).keys()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.__name__)
def test_a_document_has_the_fields_that_the_service_answers(document: type) -> None:
    model = DOCUMENTS[document]
    ours = typing.get_type_hints(document)
    assert ours.keys() == model.model_fields.keys()
    for name, hint in ours.items():
        theirs = model.model_fields[name].annotation
        assert nullable(hint) == nullable(theirs), name


def nullable(hint: Any) -> bool:
    return type(None) in typing.get_args(hint)


def test_no_document_is_forgotten() -> None:
    defined = {
        value
        for value in vars(documents).values()
        if isinstance(value, type) and value.__module__ == documents.__name__
    }
    assert defined == DOCUMENTS.keys()


def test_an_execution_is_read_from_what_the_service_answers() -> None:
    assert set(Execution.__slots__) - {"document"} <= executions.ExecutionView.model_fields.keys()
    assert set(Usage.__slots__) == executions.TokenCounts.model_fields.keys()


@pytest.mark.parametrize(
    ("filters", "operation"),
    [
        (options.AgentFilters, "list_agents"),
        (options.ExecutionFilters, "list_executions"),
        (options.ModelFilters, "list_models"),
    ],
)
def test_filters_are_those_of_the_service(
    operations: dict[str, Any], filters: type, operation: str
) -> None:
    parameters = {each["name"] for each in operations[operation]["parameters"]}
    assert typing.get_type_hints(filters).keys() == parameters - {"limit", "cursor"}


@pytest.mark.parametrize(
    ("given", "model", "apart"),
    [
        (options.AgentFields, agents.AgentCreate, {"name", "config", "publish"}),
        (options.AgentChanges, agents.AgentPatch, set[str]()),
    ],
)
def test_what_an_agent_may_be_given_is_what_the_service_takes(
    given: type, model: type[BaseModel], apart: set[str]
) -> None:
    assert typing.get_type_hints(given).keys() == model.model_fields.keys() - apart


def test_what_a_run_may_be_given_is_what_the_service_takes() -> None:
    ours = typing.get_type_hints(options.RunOptions).keys() - {"idempotency_key", "draft"}
    sent = executions.ExecuteRequest.model_fields.keys() - {"input", "mode", "timeout_s"}
    assert ours == sent


def test_decisions_are_made_without_a_connection() -> None:
    """What both clients share does no I/O, so that they cannot differ in it."""
    shared = [*SOURCES.glob("calls/*.py"), *(SOURCES / f"{n}.py" for n in PURE)]
    for source in shared:
        assert not imports_of(source) & {"httpx2", "time", "asyncio", "socket"}, source
    for name in ("sync", "aio"):
        found = {module for path in SOURCES.glob(f"{name}/*.py") for module in imports_of(path)}
        assert not found & {"json", "random", "re", "urllib"}, name


PURE = ("requests", "retries", "resuming", "events", "executions", "errors", "documents", "options")


def imports_of(source: Path) -> set[str]:
    found = set[str]()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_importing_the_client_imports_little() -> None:
    program = (
        "import time, httpx2, sys; before = time.process_time(); import chargehand_client; "
        "print(time.process_time() - before, *sys.modules)"
    )
    command = [sys.executable, "-c", program]
    subprocess.run(command, check=True, capture_output=True, cwd=SOURCES.parent)  # compiles
    done = subprocess.run(command, check=True, capture_output=True, cwd=SOURCES.parent, text=True)
    spent_s, *modules = done.stdout.split()
    unwanted = {"asyncio", "chargehand", "rich", "typer", "pydantic", "tarfile", "tomllib"}
    assert not unwanted & {name.partition(".")[0] for name in modules}
    # 0.03 s of processor time, measured; httpx2 takes twice as long.
    assert float(spent_s) < 0.15
