"""HTTP: the models that an installation can use, and their providers (SPEC MOD-2, MOD-3)."""

from collections.abc import Collection
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from chargehand.catalog.checks import RecentChecks
from chargehand.catalog.entries import Capability
from chargehand.catalog.listing import Filters, providers, usable
from chargehand.catalog.models import entries
from chargehand.catalog.schemas import ModelView, ProviderView
from chargehand.kernel.errors import Invalid, Violation
from chargehand.tenancy.caller import Caller
from chargehand.tenancy.dependencies import GuardedRoute, require
from chargehand.web.paging import Cursor, Limit, Page, decode_name_cursor, encode_name_cursor
from chargehand.web.suggestions import did_you_mean
from chargehand.web.texts import NO_NUL

router = APIRouter(prefix="/api/v1", tags=["models"], route_class=GuardedRoute)

Text = Annotated[str, Field(max_length=200), NO_NUL] | None


async def _connected(request: Request) -> Collection[str]:
    return request.app.state.connected


async def _checks(request: Request) -> RecentChecks:
    return request.app.state.checks


Reader = Annotated[Caller, Depends(require("agents:read"))]
Connected = Annotated[Collection[str], Depends(_connected)]
"""The providers that this installation can reach; the simulated one need not be among them."""


@router.get(
    "/models",
    operation_id="list_models",
    response_model=Page[ModelView],
    summary="The known models of the providers that are connected here, by provider and name",
)
async def list_models(
    _caller: Reader,
    connected: Connected,
    provider: Annotated[Text, Query(description="The provider's name.")] = None,
    text: Annotated[Text, Query(description="Found in `provider:name`.")] = None,
    capability: Annotated[
        Capability | None, Query(description="What the model must be able to do or to read.")
    ] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[ModelView]:
    _require_known(provider, providers(connected))
    filters = Filters(provider=provider, text=text, capability=capability)
    after = decode_name_cursor("models", cursor)
    found = usable(entries(), connected, filters, after=after)
    more = found[limit - 1].identifier if len(found) > limit else None
    return Page(
        items=[ModelView.of(entry) for entry in found[:limit]],
        next_cursor=None if more is None else encode_name_cursor("models", more),
    )


@router.get(
    "/models/providers",
    operation_id="list_providers",
    response_model=Page[ProviderView],
    summary="Every provider that there is, and what it needs where it is not connected",
)
async def list_providers(
    _caller: Reader,
    connected: Connected,
    checks: Annotated[RecentChecks, Depends(_checks)],
    check: Annotated[
        bool, Query(description="Ask those connected whether they answer; at most every 10 s.")
    ] = False,
) -> Page[ProviderView]:
    """All of them, on one page. Without ``check`` no vendor is asked anything."""
    checked = await checks.newest() if check else None
    items = [ProviderView.of(name, connected, checked) for name in providers(connected)]
    return Page(items=items, next_cursor=None)


def _require_known(provider: str | None, known: Collection[str]) -> None:
    if provider is None or provider in known:
        return
    hint = did_you_mean(provider, known)
    raise Invalid(
        f"There is no provider {provider!r}{hint}. There are {', '.join(known)}.",
        violations=[Violation("/query/provider", f"unknown provider{hint}").as_json()],
    )
