"""One API process of the tenancy routes: ``key_server.py APP_URL SYSTEM_URL`` prints its port."""

import asyncio
import socket
import sys

import uvicorn
from tests.factories.tenancy import make_app

from chargehand.kernel.database import connect
from chargehand.tenancy.routes import router


async def serve(app_url: str, system_url: str) -> None:
    database = await connect(app_url, system_url, pool_size=2)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(make_app(database, router), log_level="warning")
    await uvicorn.Server(config).serve(sockets=[listener])
    await database.close()


asyncio.run(serve(*sys.argv[1:]))
