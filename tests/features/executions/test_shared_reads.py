"""Reads that many want at once: one query, and never an answer from before the question."""

import asyncio
from collections.abc import Sequence

from chargehand.executions.shared_reads import AT_ONCE, SharedReads
from chargehand.kernel.identifiers import OrganizationId, new_id

ORGANIZATION = OrganizationId(new_id())


class Source:
    """Answers with the value that was current when the query began; ``go`` lets it end."""

    def __init__(self) -> None:
        self.value = 0
        self.asked = list[Sequence[str]]()
        self.go = asyncio.Event()
        self.go.set()

    async def fetch(self, _organization: OrganizationId, keys: Sequence[str]) -> list[str]:
        self.asked.append(list(keys))
        answers = [f"{key}{self.value}" for key in keys]
        await self.go.wait()
        if "bad" in keys:
            raise ConnectionError("gone")
        return answers


async def test_equal_questions_at_once_are_one() -> None:
    source = Source()
    reads = SharedReads(source.fetch)
    answers = await asyncio.gather(*(reads.read(ORGANIZATION, key) for key in "aabab"))
    assert answers == ["a0", "a0", "b0", "a0", "b0"]
    assert source.asked == [["a", "b"]]


async def test_a_question_during_a_query_is_not_answered_by_it() -> None:
    """The query may have begun before the event that made somebody ask."""
    source = Source()
    reads = SharedReads(source.fetch)
    source.go.clear()
    first = asyncio.create_task(reads.read(ORGANIZATION, "a"))
    while not source.asked:
        await asyncio.sleep(0)
    source.value = 1
    second = asyncio.create_task(reads.read(ORGANIZATION, "a"))
    await asyncio.sleep(0)
    source.go.set()
    assert (await first, await second) == ("a0", "a1")


async def test_who_goes_away_takes_nobodys_answer_along() -> None:
    source = Source()
    reads = SharedReads(source.fetch)
    source.go.clear()
    leaving, staying = [asyncio.create_task(reads.read(ORGANIZATION, "a")) for _ in range(2)]
    while not source.asked:
        await asyncio.sleep(0)
    leaving.cancel()
    source.go.set()
    assert await staying == "a0"
    assert await reads.read(ORGANIZATION, "a") == "a0"


async def test_each_who_asked_gets_the_error_and_the_next_question_is_asked() -> None:
    source = Source()
    reads = SharedReads(source.fetch)
    questions = [reads.read(ORGANIZATION, "bad") for _ in range(3)]
    errors = await asyncio.gather(*questions, return_exceptions=True)
    assert [type(error) for error in errors] == [ConnectionError] * 3
    assert await reads.read(ORGANIZATION, "a") == "a0"


async def test_a_query_has_a_bound_and_one_organization() -> None:
    source = Source()
    reads = SharedReads(source.fetch)
    other = OrganizationId(new_id())
    keys = [str(number) for number in range(AT_ONCE + 1)]
    await asyncio.gather(
        *(reads.read(ORGANIZATION, key) for key in keys), reads.read(other, "other")
    )
    assert sorted(map(len, source.asked)) == [1, 1, AT_ONCE]
    assert ["other"] in source.asked
