"""One step of a run: the model's next answer."""

from datetime import datetime
from decimal import Decimal

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolCallPart

from chargehand.executions.endings import Ending
from chargehand.executions.journal import StepRecord
from chargehand.kernel.clock import now
from chargehand.runtime import limits
from chargehand.runtime.history import text_of, with_unique_calls
from chargehand.runtime.interruption import interruptible
from chargehand.runtime.model_call import ModelStep, call_model
from chargehand.runtime.output import check_output, repair_request
from chargehand.runtime.recording import partial_ending, record
from chargehand.runtime.runs import Outside, Run
from chargehand.runtime.streaming_text import TextStream
from chargehand.runtime.toolset import Toolset
from chargehand.usage import records


async def take_model_step(run: Run, toolset: Toolset, out: Outside) -> bool:
    """Ask the model and record what it says; True if that was the end of the run.

    Raises LeaseLost, CancelRequested, OutOfTime.
    """
    started_at = now()
    provider = out.providers[run.config.model.provider]
    run.partial_text.clear()
    run.text_left = False
    async with TextStream(run, out.database, out.bells) as text:
        step = await interruptible(
            run,
            out,
            call_model(run, provider, toolset.definitions(), text.add, text.reset, out.call_policy),
        )
    if step.response is None:
        await _record_failed_model_step(run, out, step, started_at)
        return True
    return await _record_answer(run, out, step, with_unique_calls(step.response), started_at)


async def _record_answer(
    run: Run, out: Outside, step: ModelStep, response: ModelResponse, started_at: datetime
) -> bool:
    """Journal the answer; if it is the last word, end the run in the same transaction."""
    run.partial_text[:] = [text_of(response)]
    added: list[ModelMessage] = [response]
    calls = [part for part in response.parts if isinstance(part, ToolCallPart)]
    ending: Ending | None = None
    if (beyond := _overrun(run, step)) is not None:
        ending = partial_ending(run, "failed", error_code=beyond.code, error_message=beyond.message)
    elif not calls:
        verdict = _verdict(run, response)
        if isinstance(verdict, Ending):
            ending = verdict
        else:
            added.append(verdict)
    taken = _model_record(run, step, started_at, response=response, calls=calls)
    await record(run, out, taken, added, usage=step.usage, ending=ending)
    return ending is not None


def _overrun(run: Run, step: ModelStep) -> limits.Exceeded | None:
    used = records.total_of(step.usage).total_tokens
    return limits.overrun(
        run.config.limits,
        tokens=run.input_tokens + run.output_tokens + used,
        cost=run.cost + sum((record.cost for record in step.usage), Decimal(0)),
    )


async def _record_failed_model_step(
    run: Run, out: Outside, step: ModelStep, started_at: datetime
) -> None:
    assert step.failure is not None
    failure = step.failure
    taken = _model_record(run, step, started_at, response=None, calls=[])
    model = f"{run.config.model.provider}:{run.config.model.name}"
    tries = f"{len(step.attempts)} attempt{'s' if len(step.attempts) > 1 else ''}"
    ending = partial_ending(
        run,
        "failed",
        error_code="ModelProviderFailed",
        error_message=f"{model} gave no answer in {tries}: {failure.message}",
        error_details={"attempts": step.attempts},
    )
    await record(run, out, taken, [], usage=step.usage, ending=ending)


def _model_record(
    run: Run,
    step: ModelStep,
    started_at: datetime,
    *,
    response: ModelResponse | None,
    calls: list[ToolCallPart],
) -> StepRecord:
    return StepRecord(
        seq=run.steps + 1,
        kind="model",
        call_id=step.call_id,
        provider=run.config.model.provider,
        model=run.config.model.name,
        attempts=step.attempts,
        tool_names=[part.tool_name for part in calls],
        finish_reason=response.finish_reason if response else None,
        provider_response_id=response.provider_response_id if response else None,
        error={"message": step.failure.message} if step.failure else None,
        started_at=started_at,
        completed_at=now(),
    )


def _verdict(run: Run, response: ModelResponse) -> Ending | ModelRequest:
    """How the run ends with this last answer, or, once, the request to repair it."""
    output, violations = check_output(response, run.config.output_schema)
    if violations and not run.state.get("output_repaired"):
        run.state["output_repaired"] = True
        return repair_request(violations)
    if violations:
        return partial_ending(
            run,
            "failed",
            finish_reason=response.finish_reason,
            error_code="OutputInvalid",
            error_message="The output does not fit the agent's output schema, also after one "
            f"repair round: {violations[0].message} (at {violations[0].pointer or 'the top'}).",
            error_details={"violations": [violation.as_json() for violation in violations]},
        )
    return Ending(
        status="completed",
        output=output,
        finish_reason=response.finish_reason,
        provider_response_id=response.provider_response_id,
    )
