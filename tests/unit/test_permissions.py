"""Roles and scopes (SPEC TEN-1, TEN-3)."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.kernel.identifiers import KeyId, OrganizationId, UserId, new_id
from chargehand.tenancy.caller import Caller, Role
from chargehand.tenancy.permissions import (
    ROLES,
    SCOPES,
    RoleTooLow,
    ScopeMissing,
    UnknownScope,
    check_role,
    check_scopes,
    parse_scopes,
)
from chargehand.tenancy.tiers import FREE


def caller_with(*scopes: str, role: Role = "viewer") -> Caller:
    return Caller(
        OrganizationId(new_id()),
        UserId(new_id()),
        KeyId(new_id()),
        role,
        frozenset(scopes),
        FREE,
    )


def test_the_scopes_are_those_of_the_specification() -> None:
    pairs = ("agents", "executions", "prompts", "conversations", "chains", "schedules", "documents")
    expected = {f"{noun}:{verb}" for noun in pairs for verb in ("read", "write")}
    expected |= {"agents:execute", "events:write", "usage:read", "budgets:write"}
    expected |= {"webhooks:write", "audit:read", "admin"}
    assert set(SCOPES) == expected


@pytest.mark.parametrize(("held", "needed"), list(product(ROLES, ROLES)))
def test_a_role_may_do_what_weaker_roles_may(held: Role, needed: Role) -> None:
    caller = caller_with(role=held)
    if ROLES.index(held) >= ROLES.index(needed):
        check_role(caller, needed)
        return
    with pytest.raises(RoleTooLow) as denied:
        check_role(caller, needed)
    assert denied.value.code == "InsufficientPermissions"
    assert denied.value.details == {"needed_role": needed, "held_role": held}
    assert f"role {needed}" in denied.value.message


def test_admins_are_admins_and_owners() -> None:
    assert [role for role in ROLES if caller_with(role=role).is_admin] == ["admin", "owner"]


@given(st.sets(st.sampled_from(SCOPES)), st.sets(st.sampled_from(SCOPES)))
def test_exactly_the_scopes_that_are_missing_are_named(held: set[str], needed: set[str]) -> None:
    caller = caller_with(*held)
    if needed <= held or "admin" in held:
        check_scopes(caller, needed)
        return
    with pytest.raises(ScopeMissing) as denied:
        check_scopes(caller, needed)
    assert denied.value.code == "AgentAccessDenied"
    assert denied.value.details["missing_scopes"] == sorted(needed - held)
    assert denied.value.details["held_scopes"] == sorted(held)


def test_scopes_come_in_the_order_of_the_list_and_once() -> None:
    assert parse_scopes(["admin", "agents:read", "admin"]) == ["agents:read", "admin"]


def test_an_unknown_scope_is_refused_with_its_place_and_the_nearest() -> None:
    with pytest.raises(UnknownScope) as refused:
        parse_scopes(["agents:read", "agent:reads", "☃"])
    assert refused.value.code == "InvalidInput"
    assert [v["pointer"] for v in refused.value.details["violations"]] == ["/scopes/1", "/scopes/2"]
    assert "(did you mean agents:read?)" in refused.value.details["violations"][0]["message"]
    assert "did you mean" not in refused.value.details["violations"][1]["message"]
