"""What a caller may do (SPEC TEN-1, TEN-3). Pure."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import get_args

from chargehand.kernel.errors import Denied, Invalid, Violation
from chargehand.tenancy.caller import Caller, Role, Scope

ROLES: tuple[Role, ...] = get_args(Role)
SCOPES: tuple[Scope, ...] = get_args(Scope)


class ScopeMissing(Denied):
    """The key does not hold a scope that the request needs."""

    code = "AgentAccessDenied"


class RoleTooLow(Denied):
    """The user's role does not allow the request."""

    code = "InsufficientPermissions"


class UnknownScope(Invalid):
    """A scope that is not in the closed list."""

    code = "InvalidInput"


def holds_scope(caller: Caller, scope: str) -> bool:
    """Whether the key holds the scope, or ``admin``, which implies it."""
    return scope in caller.scopes or "admin" in caller.scopes


def check_scopes(caller: Caller, needed: Iterable[str]) -> None:
    """Raise ScopeMissing unless the key holds every needed scope, or ``admin``."""
    missing = sorted(scope for scope in set(needed) if not holds_scope(caller, scope))
    if not missing:
        return
    held = sorted(caller.scopes)
    raise ScopeMissing(
        f"This key lacks the scope {', '.join(missing)}; it holds {', '.join(held) or 'none'}. "
        "Use a key that holds it, or ask an admin of your organization for one.",
        missing_scopes=missing,
        held_scopes=held,
    )


def check_role(caller: Caller, needed: Role) -> None:
    """Raise RoleTooLow unless the user's role is at least the needed one."""
    if ROLES.index(caller.role) >= ROLES.index(needed):
        return
    raise RoleTooLow(
        f"This needs the role {needed}, and yours is {caller.role}. "
        "Ask an owner of your organization to do it or to change your role.",
        needed_role=needed,
        held_role=caller.role,
    )


def parse_scopes(names: Iterable[str]) -> list[Scope]:
    """The scopes of these names, in the order of the list and each once.

    Raises UnknownScope naming each that is unknown, with the nearest one that there is.
    """
    given = list(names)
    violations = [
        Violation(f"/scopes/{position}", f"unknown scope {name!r}{_nearest(name)}")
        for position, name in enumerate(given)
        if name not in SCOPES
    ]
    if violations:
        raise UnknownScope(
            f"{'; '.join(violation.message for violation in violations[:5])}. "
            f"The scopes are {', '.join(SCOPES)}.",
            violations=[violation.as_json() for violation in violations],
        )
    return [scope for scope in SCOPES if scope in given]


def _nearest(name: str) -> str:
    nearest = get_close_matches(name, SCOPES, n=1)
    return f" (did you mean {nearest[0]}?)" if nearest else ""
