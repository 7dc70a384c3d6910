"""``agents``: define, change, publish and look at agents, through the client package."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from chargehand.cli import completion, documents, lists, options, output, runs

if TYPE_CHECKING:
    from chargehand_client import Chargehand
    from chargehand_client.documents import Agent, AgentSummary, Notice, VersionSummary

agents = options.noun("Define, change, publish and look at agents.")

Visibility = Literal["private", "team", "organization", "public"]
Description = Annotated[str | None, typer.Option(help="What it is for, in a sentence.")]
Model = Annotated[
    str | None,
    typer.Option(metavar="PROVIDER:NAME", help="Its model.", autocompletion=completion.models),
]
Instructions = Annotated[
    str | None, typer.Option(metavar="TEXT", help="What it is told first; @FILE reads a file.")
]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="To find it by; repeat it.")]
SeenBy = Annotated[Visibility | None, typer.Option("--visibility", help="Who may see and run it.")]
Changelog = Annotated[str | None, typer.Option(help="What is new in it.")]


@options.command(agents, "list")
def list_(
    status: Annotated[
        Literal["draft", "published", "deprecated", "archived"] | None,
        typer.Option(help="Those whose current version is this."),
    ] = None,
    visibility: Annotated[Visibility | None, typer.Option(help="Those that these see.")] = None,
    tag: Annotated[str | None, typer.Option(help="Those with this tag.")] = None,
    text: Annotated[
        str | None, typer.Option(help="Those with this in slug, name or description.")
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(help="Those of a vendor's models.", autocompletion=completion.providers),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Those of this model, by its name.")] = None,
    active: Annotated[
        bool | None, typer.Option("--active/--inactive", help="Those that may be run, or not.")
    ] = None,
    limit: lists.Limit = lists.DEFAULT_LIMIT,
    as_json: output.AsJson = False,
) -> None:
    """List the agents that you may see.

    Example: chargehand agents list --tag demo
    """
    with options.service() as chargehand:
        found = chargehand.agents(
            status=status,
            visibility=visibility,
            tag=tag,
            text=text,
            provider=provider,
            model=model,
            active=active,
        )
        columns = ("slug", "name", "version", "status", "model", "visibility", "updated")
        lists.show(found, limit, columns, _row, lists.as_it_is, as_json)


@options.command(agents)
def show(
    agent: runs.Agent,
    version: Annotated[str | None, typer.Option(help="One of its versions, as in 1.2.0.")] = None,
    as_json: output.AsJson = False,
) -> None:
    """Show an agent with its configuration.

    Example: chargehand agents show assistant
    """
    with options.service() as chargehand:
        found: Mapping[str, Any] = (
            chargehand.agent(agent) if version is None else chargehand.agent_version(agent, version)
        )
    if as_json:
        output.print_document(found)
        return
    output.print_fields({name: value for name, value in found.items() if name != "config"})
    output.print_fields({"config": found["config"]})


@options.command(agents)
def create(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The file may say it.")] = None,
    file: documents.File = None,
    slug: Annotated[
        str | None, typer.Option(help="How it is called in addresses; else made of its name.")
    ] = None,
    model: Model = None,
    instructions: Instructions = None,
    description: Description = None,
    visibility: SeenBy = None,
    tags: Tags = None,
    changelog: Changelog = None,
    draft: Annotated[bool, typer.Option("--draft", help="Do not publish it yet.")] = False,
    as_json: output.AsJson = False,
) -> None:
    """Create an agent and publish it.

    Of a file with name and config (and slug, description, visibility, tags, metadata), of options,
    or of both: options go before the file.

    Example: chargehand agents create Helper --model simulated:standard --instructions "Be brief."
    """
    given = _document(file, name, slug, model, instructions, description, visibility, tags)
    given |= {"changelog": changelog} if changelog is not None else {}
    config = given.pop("config", {})
    with options.service() as chargehand:
        made = chargehand.create_agent(_name(given), config, publish=not draft, **given)
    _tell(made, as_json, "is created as a draft" if draft else "is published")


@options.command(agents)
def validate(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The file may say it.")] = None,
    file: documents.File = None,
    model: Model = None,
    instructions: Instructions = None,
    as_json: output.AsJson = False,
) -> None:
    """Say what creating an agent would say.

    Saves nothing; ends with status 2 where it would be refused.

    Example: chargehand agents validate --file agent.json
    """
    given = _document(file, name, None, model, instructions, None, None, None)
    config = given.pop("config", {})
    with options.service() as chargehand:
        found = chargehand.validate_agent(_name(given), config, **given)
    if as_json:
        output.print_document(found)
    else:
        options.tell("It can be created." if found["valid"] else "It cannot be created.")
        _print_notices(found["violations"])
        _print_notices(found["warnings"], "warning: ")
    raise typer.Exit(0 if found["valid"] else output.USAGE)


@options.command(agents)
def update(
    agent: runs.Agent,
    file: documents.File = None,
    name: Annotated[str | None, typer.Option(help="Its new name.")] = None,
    model: Model = None,
    instructions: Instructions = None,
    description: Description = None,
    visibility: SeenBy = None,
    tags: Tags = None,
    changelog: Changelog = None,
    bump: Annotated[
        Literal["major", "minor", "patch"] | None, typer.Option(help="Which number grows.")
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Change an agent; what is left out stays.

    A new configuration goes to a draft, which `agents test` runs and `agents publish` publishes.

    Example: chargehand agents update assistant --instructions @instructions.txt --bump minor
    """
    given = _document(file, name, None, None, None, description, visibility, tags)
    given |= {"changelog": changelog} if changelog is not None else {}
    given |= {"bump": bump} if bump is not None else {}
    with options.service() as chargehand:
        if model is not None or instructions is not None:
            base = given["config"] if "config" in given else _newest_config(chargehand, agent)
            given["config"] = _configured(base, model, instructions)
        changed = chargehand.update_agent(agent, **given)
    _tell(changed, as_json, "is changed")


@options.command(agents)
def publish(
    agent: runs.Agent,
    version: Annotated[
        str | None, typer.Option(help="What the draft must be, as in 1.2.0.")
    ] = None,
    changelog: Changelog = None,
    as_json: output.AsJson = False,
) -> None:
    """Publish the draft of an agent.

    Example: chargehand agents publish assistant --changelog "Shorter answers."
    """
    with options.service() as chargehand:
        published = chargehand.publish_agent(agent, version=version, changelog=changelog)
    _tell(published, as_json, "is published")


@options.command(agents, "test")
def run_draft(
    agent: runs.Agent,
    text: runs.Input = None,
    workspace: runs.Workspace = None,
    end_user: runs.EndUser = None,
    in_background: runs.InBackground = False,
    as_json: runs.AsJsonLines = False,
) -> None:
    """Run the draft of an agent, as a test.

    Example: chargehand agents test assistant "Hello"
    """
    runs.started(
        agent,
        text,
        {"workspace": workspace, "end_user": end_user, "draft": True},
        in_background=in_background,
        as_json=as_json,
    )


@options.command(agents)
def versions(
    agent: runs.Agent,
    limit: lists.Limit = lists.DEFAULT_LIMIT,
    as_json: output.AsJson = False,
) -> None:
    """List the versions of an agent, newest first.

    Example: chargehand agents versions assistant
    """
    with options.service() as chargehand:
        columns = ("version", "status", "current", "published", "changelog")
        found = chargehand.agent_versions(agent)
        lists.show(found, limit, columns, _version_row, lists.as_it_is, as_json)


@options.command(agents)
def activate(agent: runs.Agent, as_json: output.AsJson = False) -> None:
    """Let a deactivated agent run again.

    Example: chargehand agents activate assistant
    """
    with options.service() as chargehand:
        _tell(chargehand.activate_agent(agent), as_json, "may be run")


@options.command(agents)
def deactivate(agent: runs.Agent, as_json: output.AsJson = False) -> None:
    """Let an agent refuse new runs.

    Example: chargehand agents deactivate assistant
    """
    with options.service() as chargehand:
        _tell(chargehand.deactivate_agent(agent), as_json, "refuses new runs")


@options.command(agents)
def delete(
    agent: runs.Agent,
    purge: Annotated[bool, typer.Option("--purge", help="With all its runs, as an admin.")] = False,
    as_json: output.AsJson = False,
) -> None:
    """Delete an agent.

    One that has runs is archived instead, unless an admin purges it.

    Example: chargehand agents delete assistant --yes
    """
    options.confirm(f"Delete agent {agent}{' and all its runs' if purge else ''}?")
    with options.service() as chargehand:
        deleted = chargehand.delete_agent(agent, purge=purge)
    if as_json:
        output.print_document(deleted)
    else:
        options.tell(f"Agent {deleted['slug']} is {deleted['outcome']}.")


def _document(
    file: Path | None,
    name: str | None,
    slug: str | None,
    model: str | None,
    instructions: str | None,
    description: str | None,
    visibility: str | None,
    tags: list[str] | None,
) -> dict[str, Any]:
    """What an agent is given: of the file, and before that of the options.

    Raises typer.BadParameter for a file that cannot be used, or with a field that no agent has.
    """
    found = {} if file is None else documents.read(file)
    known = ("name", "slug", "description", "visibility", "tags", "metadata", "config", "changelog")
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise typer.BadParameter(
            f"{file} has {', '.join(map(repr, unknown))}; it may have {', '.join(known)}",
            param_hint="--file",
        )
    of_options = {
        "name": name,
        "slug": slug,
        "description": description,
        "visibility": visibility,
        "tags": tags or None,
    }
    found |= {field: value for field, value in of_options.items() if value is not None}
    if model is not None or instructions is not None:
        found["config"] = _configured(found.get("config", {}), model, instructions)
    return found


def _configured(config: Any, model: str | None, instructions: str | None) -> dict[str, Any]:
    """The configuration with another model or other instructions."""
    changed = dict(config) if isinstance(config, dict) else {}
    if model is not None:
        provider, colon, name = model.partition(":")
        if not colon:
            raise typer.BadParameter(
                f"{model!r} has no provider; give it as in simulated:standard", param_hint="--model"
            )
        before = changed.get("model")
        settings = dict(before) if isinstance(before, dict) else {}
        changed["model"] = {**settings, "provider": provider, "name": name}
    if instructions is not None:
        changed["instructions"] = documents.text_of(instructions, "--instructions")
    return changed


def _name(given: dict[str, Any]) -> str:
    name = given.pop("name", None)
    if not isinstance(name, str):
        raise typer.BadParameter("give it, or a file that has it", param_hint="NAME")
    return name


def _newest_config(chargehand: "Chargehand", agent: str) -> dict[str, Any]:
    """That of the draft, if there is one, for it is what a change goes to."""
    found = chargehand.agent(agent)
    if found["draft"] is None:
        return found["config"]
    return chargehand.agent_version(agent, found["draft"]["version"])["config"]


def _tell(agent: "Agent", as_json: bool, done: str) -> None:
    if as_json:
        output.print_document(agent)
        return
    draft = agent["draft"]
    version = agent["version"] if draft is None else f"{agent['version']}, draft {draft['version']}"
    options.tell(f"Agent {agent['slug']} ({version}) {done}.")
    _print_notices(agent["warnings"], "warning: ")


def _print_notices(notices: "list[Notice]", kind: str = "") -> None:
    for notice in notices:
        print(output.visible(f"  {kind}{notice['pointer'] or '/'}: {notice['message']}"))


def _row(agent: "AgentSummary") -> tuple[str, ...]:
    return (
        agent["slug"],
        agent["name"],
        agent["version"],
        agent["status"] if agent["active"] else f"{agent['status']}, inactive",
        f"{agent['provider']}:{agent['model']}",
        agent["visibility"],
        lists.minute(agent["updated_at"]),
    )


def _version_row(version: "VersionSummary") -> tuple[str, ...]:
    current = "yes" if version["current"] else ""
    published = lists.minute(version["published_at"])
    return (version["version"], version["status"], current, published, version["changelog"])
