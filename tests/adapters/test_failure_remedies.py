"""What each failure of a vendor means for the next attempt, and how long it waits (MOD-2)."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelAPIError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelUnavailableError,
    UnexpectedModelBehavior,
)

from chargehand.adapters.providers import _remedy, _retry_after_s
from chargehand.runtime.model_call import LONGEST_PAUSE_S, LONGEST_WAIT_S, pause_s
from chargehand.runtime.ports import ModelCallFailed, Remedy


def status(code: int, category: Any = None) -> ModelHTTPError:
    """As the vendors' models raise it: of its category too."""
    return ModelHTTPError.for_category(category, status_code=code, model_name="m")


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (ModelAPIError("m", "nobody there"), "retry"),
        (UnexpectedModelBehavior("garbage"), "retry"),
        *((status(code), "retry") for code in (408, 409, 425, 429, 500, 503, 529, 599)),
        *((status(code), "give_up") for code in (400, 401, 403, 404, 413, 422, 499)),
        (status(429, ModelRateLimitError), "retry"),
        (status(503, ModelUnavailableError), "retry"),
        (status(429, ModelQuotaExceededError), "next_model"),
        (status(403, ModelQuotaExceededError), "next_model"),
        (status(404, ModelNotFoundError), "give_up"),
        (status(400, ModelContextWindowExceededError), "give_up"),
        (status(400, ModelRequestRejectedError), "give_up"),
        # Told inside a stream, where there is no status.
        (ModelRateLimitError("m", "too fast"), "retry"),
        (ModelQuotaExceededError("m", "no credit"), "next_model"),
        (ModelRequestRejectedError("m", "rejected"), "give_up"),
        (ContentFilterError("withheld"), "give_up"),
        (RuntimeError("a protocol cannot carry it"), "give_up"),
    ],
    ids=repr,
)
def test_each_failure_has_its_remedy(error: Exception, remedy: Remedy) -> None:
    assert _remedy(error) == remedy


@pytest.mark.parametrize(
    ("headers", "waits"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
        (None, None),
    ],
)
def test_what_is_asked_is_a_time_or_nothing(
    headers: Mapping[str, str] | None, waits: float | None
) -> None:
    assert _retry_after_s(ModelHTTPError(429, "m", headers=headers)) == waits


def failure(retry_after_s: float | None) -> ModelCallFailed:
    return ModelCallFailed("m failed", remedy="retry", retry_after_s=retry_after_s)


def test_a_pause_is_as_long_as_is_asked_up_to_a_limit() -> None:
    assert LONGEST_WAIT_S == 60
    asked = (0, 0.4, 59.5, 60, 61, 1e9)
    assert [pause_s(failure(s), attempt=1) for s in asked] == [0, 0.4, 59.5, 60, 60, 60]


@pytest.mark.parametrize("attempt", range(1, 12))
@pytest.mark.parametrize("failed", [failure(None), None])
def test_a_pause_that_nobody_asks_for_doubles_with_jitter(
    failed: ModelCallFailed | None, attempt: int
) -> None:
    longest = min(LONGEST_PAUSE_S, 0.25 * math.pow(2, attempt))
    pauses = [pause_s(failed, attempt) for _ in range(200)]
    assert longest / 2 <= min(pauses) < max(pauses) <= longest
    # All over the range, and not at one place of it.
    assert max(pauses) - min(pauses) > longest / 4
