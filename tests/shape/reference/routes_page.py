"""The routes, from the OpenAPI document of the application; WebSockets, which it lacks, beside."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fastapi.routing import iter_route_contexts
from tests.factories.described import described_app
from tests.shape.reference.markdown import REFERENCE, Page, code, codes, paragraphs, prose, table
from tests.shape.reference.schema_words import Schema, default, fields, link, referred, words

from chargehand.tenancy.permissions import SCOPES

TITLES = {
    "tenancy": "Callers, keys and members",
    "models": "Models",
    "agents": "Agents",
    "uploads": "Uploads",
    "executions": "Executions",
    "service": "The service itself",
}

PAGE = "Page"
"""Every list's answer; the document has a shape of its own for each kind of item."""


class Route(NamedTuple):
    method: str
    path: str
    operation: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.operation["operationId"]

    @property
    def scopes(self) -> list[str]:
        needs = self.operation.get("security", ())
        return [scope for need in needs for scope in need["ApiKey"]]

    @property
    def role(self) -> str | None:
        return self.operation.get("x-required-role")

    @property
    def body(self) -> Schema | None:
        """What it takes as JSON."""
        content = self.operation.get("requestBody", {}).get("content", {})
        return content.get("application/json", {}).get("schema")


def routes(document: Mapping[str, Any]) -> list[Route]:
    return [
        Route(method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def sockets(app: Any) -> dict[str, str]:
    """The paths of the WebSocket routes, each with what it is for."""
    found: dict[str, str] = {}
    for context in iter_route_contexts(app.routes):
        route: Any = context
        if getattr(route, "methods", None) is None and hasattr(route, "endpoint"):
            found[route.path] = prose(route.endpoint.__doc__)
    return found


def page() -> Page:
    app = described_app()
    document = app.openapi()
    schemas: Mapping[str, Schema] = document["components"]["schemas"]
    groups: defaultdict[str, list[Route]] = defaultdict(list)
    for route in routes(document):
        groups[route.operation["tags"][0]].append(route)
    assert groups.keys() == TITLES.keys()
    common = common_codes(routes(document))
    shown: dict[str, str] = {}
    sections = [
        paragraphs(
            f"### {TITLES[tag]}",
            *(_section(route, schemas, common, shown) for route in groups[tag]),
        )
        for tag in TITLES
    ]
    return Page(
        REFERENCE / "routes.md",
        {
            "routes": _overview(groups),
            "common errors": f"Every route that needs a key can answer {codes(common)}; these are "
            "not repeated below.",
            "sockets": table(("path", "what it is for"), _sockets(app)),
            "details": paragraphs(*sections),
            "shapes": paragraphs(*_shapes(document)),
        },
    )


def _overview(groups: Mapping[str, list[Route]]) -> str:
    rows = [
        (f"[{route.method} {route.path}](#{route.name})", route.operation["summary"])
        for tag in TITLES
        for route in groups[tag]
    ]
    return table(("route", "what it does"), rows)


def _sockets(app: Any) -> Iterator[tuple[str, str]]:
    for path, meaning in sockets(app).items():
        yield code(path), meaning


def common_codes(found: Iterable[Route]) -> list[str]:
    """The codes that every route with a key can answer."""
    of_each = [list(_codes(route)) for route in found if route.role is not None]
    return [name for name in of_each[0] if all(name in one for one in of_each)]


def _codes(route: Route) -> Iterator[str]:
    for response in route.operation["responses"].values():
        yield from response.get("x-error-codes", ())


def _section(
    route: Route, schemas: Mapping[str, Schema], common: list[str], shown: dict[str, str]
) -> str:
    return paragraphs(
        f"#### {route.name}",
        f"{code(f'{route.method} {route.path}')}: {route.operation['summary']}. {_needs(route)}",
        prose(route.operation.get("description")),
        _parameters(route),
        _body(route, schemas, shown),
        "\n".join(_answers(route, common)),
    )


def _needs(route: Route) -> str:
    if route.role is None:
        return "Public: it needs no key."
    scopes = f"the scope {codes(route.scopes)} and " if route.scopes else ""
    return f"Needs {scopes}the role {code(route.role)}."


def _parameters(route: Route) -> str:
    parameters = route.operation.get("parameters", ())
    rows = [
        (
            code(one["name"]),
            one["in"],
            words(one["schema"]),
            "**required**" if one["required"] else default(one["schema"]),
            prose(one["description"]),
        )
        for one in parameters
    ]
    return table(("parameter", "in", "type", "default", "meaning"), rows) if rows else ""


def _body(route: Route, schemas: Mapping[str, Schema], shown: dict[str, str]) -> str:
    """``shown`` is by shape the route that has its fields, for the next that takes the same."""
    request = route.operation.get("requestBody")
    if request is None:
        return ""
    if route.body is None:
        return f"Body: {request['description']} As {codes(request['content'])}."
    optional = "" if request.get("required") else ", which may be left out"
    name, *others = referred(route.body)
    assert not others
    if (first := shown.setdefault(name, route.name)) != route.name:
        return f"Body{optional}: `{name}`, as of [{first}](#{first})."
    shape = schemas[name]
    said = " ".join(prose(shape["description"]).split())
    return paragraphs(f"Body{optional}: `{name}`. {said}", fields(shape))


def _answers(route: Route, common: list[str]) -> Iterator[str]:
    failed: list[str] = []
    for status, response in route.operation["responses"].items():
        if "x-error-codes" in response:
            names = [name for name in response["x-error-codes"] if name not in common]
            failed += [f"{status} {codes(names)}"] if names else []
            continue
        content = response.get("content", {})
        shapes = dict.fromkeys(_answered(kind, one) for kind, one in content.items())
        headers = [name for name in response.get("headers", ()) if name != "X-Request-Id"]
        said = response["description"].removeprefix("Successful Response")
        sentences = [
            f"{' or '.join(shapes) or 'nothing'}.",
            said,
            f"With {codes(headers)}." if headers else "",
        ]
        yield f"- Answers {status}: {' '.join(one for one in sentences if one)}"
    if failed:
        yield f"- [Errors](errors.md#answers): {'; '.join(failed)}."


def _answered(media_type: str, content: Mapping[str, Any]) -> str:
    schema = content.get("schema", {})
    if media_type == "text/event-stream":
        return "[events](events.md)"
    if media_type == "application/json" and schema:
        return words(schema)
    return code(media_type)


def shown_shapes(document: Mapping[str, Any]) -> list[str]:
    """The shapes that have a place of their own: not those of bodies, which stand at their routes,
    nor pages of lists, which are all alike, nor errors, which have a page of their own."""
    schemas: Mapping[str, Schema] = document["components"]["schemas"]
    found = set[str]()
    for route in routes(document):
        for response in route.operation["responses"].values():
            found.update(() if "x-error-codes" in response else referred(response))
        for name in referred(route.body or {}):
            found.update(referred(schemas[name]))
    reached = set[str]()
    while found:
        reached |= found
        found = {name for one in found for name in referred(schemas[one])} - reached
    return sorted(name for name in reached if not name.endswith(PAGE) and name != "StreamEvent")


def _shapes(document: Mapping[str, Any]) -> Iterator[str]:
    schemas: Mapping[str, Schema] = document["components"]["schemas"]
    pages = [schema for name, schema in schemas.items() if name.endswith(PAGE)]
    items = {"type": "array", "items": {"type": "any"}}
    of_any = {**pages[0]["properties"], "items": {**pages[0]["properties"]["items"], **items}}
    yield f"### {PAGE}\n\nOne page of a list.\n\n{fields({**pages[0], 'properties': of_any})}"
    yield f"### Scopes\n\nWhat a key may do: {codes(SCOPES)}."
    for name in shown_shapes(document):
        schema = schemas[name]
        twin = f"{name.removesuffix('Output')}Input"
        yield f"### {name}\n\n{prose(schema['description'])}"
        if name.endswith("Output") and twin in schemas:
            assert meanings(schema) == meanings(schemas[twin]), name
            yield f"The fields of {link(twin)}, every one of them there."
        else:
            yield fields(schema)


def meanings(schema: Schema) -> dict[str, str]:
    return {name: field["description"] for name, field in schema["properties"].items()}
