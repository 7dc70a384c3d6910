"""Organizations, callers with real keys, and an app to call with them."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import httpx2
from fastapi import APIRouter, FastAPI

from chargehand.kernel.clock import now
from chargehand.kernel.database import Database
from chargehand.kernel.identifiers import OrganizationId, new_id
from chargehand.tenancy import operations
from chargehand.tenancy.caller import Caller, Role
from chargehand.tenancy.keys import KeyCache
from chargehand.tenancy.tables import Organization
from chargehand.tenancy.tiers import Tiers
from chargehand.web import problems


async def make_organization(
    database: Database, slug: str | None = None, tier: str = "enterprise"
) -> Organization:
    """An organization with an owner and no key."""
    organization_id = OrganizationId(new_id())
    slug = slug or f"org-{organization_id}"
    async with database.transaction(organization_id) as session:
        owner_id = await operations.create_user(session, email=f"{slug}@example.com", name=slug)
        return await operations.create_organization(
            session, organization_id, slug=slug, name=slug, tier=tier, owner_id=owner_id
        )


async def make_caller(
    database: Database,
    role: Role = "owner",
    scopes: Sequence[str] = ("admin",),
    organization: Organization | None = None,
    expires_at: datetime | None = None,
) -> tuple[Caller, str]:
    """A new user of the organization (a new one, unless given) and the text of the user's key."""
    organization = organization or await make_organization(database)
    async with database.transaction(organization.id) as session:
        email = f"{new_id()}@example.com"
        user_id = await operations.create_user(session, email=email, name=role)
        await operations.add_member(session, organization.id, user_id, role)
        made = await operations.issue_key(
            session,
            organization.id,
            user_id,
            name=f"key of a {role}",
            scopes=scopes,
            expires_at=expires_at or now() + timedelta(days=1),
            created_by=user_id,
        )
    tier = Tiers().of(organization.tier)
    caller = Caller(organization.id, user_id, made.row.id, role, frozenset(made.row.scopes), tier)
    return caller, made.token


def make_app(database: Database, *routers: APIRouter) -> FastAPI:
    """An application of these routers, with the tenancy part of its state."""
    app = FastAPI()
    app.state.database = database
    app.state.tiers = Tiers()
    app.state.key_cache = KeyCache(database, app.state.tiers)
    problems.install(app)
    for router in routers:
        app.include_router(router)
    return app


def client_of(app: FastAPI, key: str | None = None) -> httpx2.AsyncClient:
    """A client that sends this key with each request; a defect of the app is a 500 to it."""
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app, raise_app_exceptions=False),
        base_url="http://chargehand.test",
        headers={} if key is None else {"Authorization": f"Bearer {key}"},
    )
