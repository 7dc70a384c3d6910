"""A database that is away is not a defect: 503, and when to try again."""

import asyncpg
import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError

from chargehand.kernel.database import TROUBLES, DatabaseUnavailable
from chargehand.web.error_codes import STATUS_OF_CODE
from chargehand.web.problems import envelope

RETRY_AFTER_S = 1

log = structlog.get_logger()


def install(app: FastAPI) -> None:
    """Answer what PostgreSQL's absence raises; an OSError of another kind stays a defect."""
    for kind in (DBAPIError, ConnectionError, TimeoutError, *TROUBLES):
        if kind is not OSError:
            app.add_exception_handler(kind, _on_outage)


async def _on_outage(request: Request, error: Exception) -> JSONResponse:
    """503 where the server, not the statement, is at fault; everything else is a defect."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, TROUBLES):
        cause = cause.__cause__
    if cause is None or isinstance(cause, asyncpg.QueryCanceledError):
        raise error
    log.warning("database_lost", path=request.url.path, error=str(cause))
    outage = DatabaseUnavailable(
        "PostgreSQL does not answer just now. Nothing was half done; try again in a moment.",
        retry_after_s=RETRY_AFTER_S,
    )
    return JSONResponse(
        envelope(request, outage.code, outage.message, dict(outage.details)),
        STATUS_OF_CODE[outage.code],
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )
