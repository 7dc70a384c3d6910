"""API-1: the OpenAPI document is true, whatever is sent (Schemathesis, all checks).

``make fuzz SEED=7 MINUTES=30`` is this test with another seed, and for longer.
"""

import asyncio
import os
import re
from pathlib import Path

from tests.conftest import TestDatabase
from tests.factories.fuzzing import Fuzzing, fuzz
from tests.factories.tenancy import make_caller

from chargehand.kernel.database import Database

SEED = int(os.environ.get("FUZZ_SEED", "1"))
MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
"""0 is once: 30 examples for each operation in each phase, in about a minute."""


async def test_answers_are_as_described_whatever_is_sent(
    database: Database, clone: TestDatabase, tmp_path: Path
) -> None:
    _, key = await make_caller(database)
    fuzzing = Fuzzing(SEED, examples=100 if MINUTES else 30, seconds=round(MINUTES * 60) or None)
    done = await asyncio.to_thread(fuzz, clone, tmp_path, key, fuzzing)
    failures = done.stdout.partition("FAILURES ===")[2]
    assert done.returncode == 0, failures or done.stdout
    assert "Authentication failed" not in done.stdout, done.stdout
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested is not None, done.stdout
    assert int(tested[1]) >= 30, done.stdout
