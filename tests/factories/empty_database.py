"""A database without a schema, on the tests' server."""

import asyncio
import os
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count

from sqlalchemy.engine import make_url
from tests.factories.databases import on, statements

from chargehand.kernel import schema

_numbers = count()


@contextmanager
def empty_database() -> Generator[str]:
    """Its owner's URL; whoever migrates it makes roles, which go with it."""
    server, name = os.environ["DATABASE_URL"], f"chargehand_empty_{os.getpid()}_{next(_numbers)}"
    url = on(server, name)
    asyncio.run(statements(server, f'create database "{name}"'))
    try:
        yield url
    finally:
        urls = schema.runtime_urls(url)
        roles = [make_url(role).username for role in (urls.app, urls.system)]
        asyncio.run(
            statements(
                server,
                f'drop database "{name}" with (force)',
                *(f'drop role if exists "{role}"' for role in roles),
            )
        )
