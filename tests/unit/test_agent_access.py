"""Who may do what with an agent, and the numbers and slugs that agents have."""

from dataclasses import dataclass
from uuid import UUID

import pytest

from chargehand.agents.access import (
    Action,
    AgentAccessDenied,
    VisibilityViolation,
    may,
    require_access,
)
from chargehand.agents.slugs import first_free, is_slug, slug_of
from chargehand.agents.version_numbers import Number, Part, find_number
from chargehand.kernel.identifiers import KeyId, OrganizationId, UserId, new_id
from chargehand.tenancy.caller import Caller, Role
from chargehand.tenancy.tiers import FREE

HERE, ELSEWHERE = OrganizationId(new_id()), OrganizationId(new_id())
OWNER, OTHER = UserId(new_id()), UserId(new_id())
ACTIONS: tuple[Action, ...] = ("read", "execute", "write", "admin")


@dataclass(frozen=True)
class AnAgent:
    visibility: str
    slug: str = "an-agent"
    organization_id: UUID = HERE
    owner_id: UUID = OWNER


def caller(role: Role, user: UserId = OTHER, organization: OrganizationId = HERE) -> Caller:
    return Caller(organization, user, KeyId(new_id()), role, frozenset(), FREE)


def allowed(who: Caller, visibility: str) -> str:
    return " ".join(action for action in ACTIONS if may(who, AnAgent(visibility), action))


ALL = "read execute write admin"


@pytest.mark.parametrize(
    ("who", "private", "organization", "public"),
    [
        (caller("owner"), ALL, ALL, ALL),
        (caller("admin"), ALL, ALL, ALL),
        (caller("member"), "", "read execute", "read execute"),
        (caller("member", OWNER), ALL, ALL, ALL),
        (caller("viewer"), "", "read", "read"),
        (caller("viewer", OWNER), "read", "read", "read"),
        (caller("owner", organization=ELSEWHERE), "", "", "read execute"),
        (caller("member", OWNER, ELSEWHERE), "", "", "read execute"),
        (caller("viewer", organization=ELSEWHERE), "", "", "read"),
    ],
)
def test_the_matrix(who: Caller, private: str, organization: str, public: str) -> None:
    assert allowed(who, "private") == private
    assert allowed(who, "organization") == organization
    assert allowed(who, "public") == public
    assert allowed(who, "team") == private


def test_what_is_not_shared_and_what_is_not_allowed_are_two_errors() -> None:
    with pytest.raises(VisibilityViolation):
        require_access(caller("member"), AnAgent("private"), "read")
    with pytest.raises(VisibilityViolation):
        require_access(caller("member"), AnAgent("private"), "write")
    with pytest.raises(AgentAccessDenied, match="its owner"):
        require_access(caller("member"), AnAgent("organization"), "write")
    with pytest.raises(AgentAccessDenied, match="Viewers only read"):
        require_access(caller("viewer"), AnAgent("public"), "execute")
    with pytest.raises(AgentAccessDenied, match="another organization"):
        require_access(caller("owner", organization=ELSEWHERE), AnAgent("public"), "write")
    require_access(caller("member"), AnAgent("organization"), "execute")


@pytest.mark.parametrize(
    ("part", "expected"), [("major", "2.0.0"), ("minor", "1.10.0"), ("patch", "1.9.4")]
)
def test_bumps(part: Part, expected: str) -> None:
    assert str(Number(1, 9, 3).bumped(part)) == expected
    assert Number(1, 10, 0) > Number(1, 9, 3)


@pytest.mark.parametrize("text", ["1", "1.2", "1.2.3.4", "v1.2.3", "01.2.3", "1.2.-3", "1.2.3\n"])
def test_what_is_no_number(text: str) -> None:
    assert find_number(text) is None


def test_a_number_in_full() -> None:
    assert find_number("1.20.300") == Number(1, 20, 300)
    assert find_number("1000000.0.0") is None


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Code review", "code-review"),
        ("  Größe & Maß!  ", "grosse-mass"),
        ("客服", "agent"),
        ("x" * 200, "x" * 56),
        ("a" * 55 + " b", "a" * 55),
    ],
)
def test_slugs_of_names(name: str, slug: str) -> None:
    assert slug_of(name) == slug
    assert is_slug(slug)


def test_the_first_free_slug() -> None:
    assert first_free("a", set()) == "a"
    assert first_free("a", {"a", "a-2", "a-4"}) == "a-3"


def test_a_slug_that_is_made_is_never_an_id() -> None:
    an_id = str(new_id())
    assert first_free(an_id, set()) == f"{an_id}-2"
    of_31 = an_id.replace("-", "")[:31]
    assert first_free(of_31, {of_31}) == f"{of_31}-10"
