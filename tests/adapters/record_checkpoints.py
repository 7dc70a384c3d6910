"""Store, as cases, the checkpoints that the installed library makes with each provider.

    python -m tests.adapters.record_checkpoints

Cases that there are stay as they are. The vendors are imitated (``tests/peers``): two calls in one
answer, after thinking where the protocol carries it, and both results: in one message, and, under
the name of ``apart``, in one of its own each, with the thinking asked for.
"""

import asyncio
import tempfile
from importlib.metadata import version
from pathlib import Path

import orjson
from pydantic_ai.messages import ModelRequest
from pydantic_ai.settings import ModelSettings
from tests.adapters.test_provider_contract import (
    MODELS,
    PROVIDERS,
    THINKING,
    THINKING_MODELS,
    WEATHER,
    Peer,
    asked,
    connection_to,
    layer_of,
    make_call,
    result_of,
    stream,
)
from tests.factories.fake_provider import RunningFakeProvider, running_fake_provider

from chargehand.adapters import simulated
from chargehand.runtime.history import dump

FOLDER = Path(__file__).parent / "checkpoints" / f"pydantic-ai-{version('pydantic-ai-slim')}"
APART = "-apart"
THOUGHT = "@wire thinking Two cities, so two calls.\n"
SCRIPT = (
    'Compare the weather.\n@say Let me see.\n@call weather {"city": "Oslo"}\n'
    '@call weather {"city": "Bergen"}\n@then\n@quote 1'
)


async def record(name: str, fake: RunningFakeProvider, file: Path, *, apart: bool) -> None:
    offline = name == "simulated"
    layer = simulated.provider() if offline else layer_of(name, connection_to(name, fake))
    model = MODELS.get(name, "gpt-4o")
    peer = Peer(name, layer, fake.log, THINKING_MODELS.get(name, model) if apart else model)
    settings = THINKING if apart else ModelSettings(max_tokens=1000)
    question = asked(SCRIPT if offline else THOUGHT + SCRIPT)
    call = make_call(peer, question, tools=[WEATHER], settings=settings)
    answer = (await stream(peer, call))[1]
    oslo, bergen = answer.tool_calls
    results = [result_of(oslo, "rain in Oslo"), result_of(bergen, "sun in Bergen")]
    told = [[result] for result in results] if apart else [results]
    requests = [ModelRequest(parts=parts) for parts in told]
    history = [dump(message) for message in (question, answer, *requests)]
    stored = orjson.dumps(history, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    await layer.close()
    with file.open("xb") as case:
        case.write(stored)


async def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with running_fake_provider(Path(tempfile.mkdtemp())) as fake:
        for name in PROVIDERS:
            for stem, apart in ((name, False), (f"{name}{APART}", True)):
                if not (file := FOLDER / f"{stem}.json").exists():
                    await record(name, fake, file, apart=apart)


if __name__ == "__main__":
    asyncio.run(main())
