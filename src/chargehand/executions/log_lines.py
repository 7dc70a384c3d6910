"""A line of a run's log is also an event of the run's stream (SPEC EXE-9, EXE-10). Pure.

The statement that inserts the line inserts the event too, so that there is never one without the
other, and gives it a number before those of its other events: ``done`` stays the last.
"""

AS_EVENT = """
    jsonb_build_object('id', seq, 'level', level, 'event_type', event_type, 'message', message,
        'context', context, 'at', to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
"""
"""SQL: the event's data, made of a row of ``logs``; what the route of the log shows of it."""

TOLD = f"""
log as (
    insert into logs (execution_id, seq, organization_id, level, event_type, message, context, at)
    select execution_id, last_log, organization_id, 'info', $2, $3, $4, $7 from fence
    returning {AS_EVENT} as told
), event as (
    insert into events (execution_id, seq, organization_id, user_id, epoch, type, data, at)
    select execution_id, last_event - cardinality($5::text[]) - 1 + n, organization_id, user_id,
           epoch, e.type, e.data, $7
      from fence, log, unnest(array['log'] || $5::text[], array[told] || $6::jsonb[])
           with ordinality as e(type, data, n)
)
"""  # noqa: S608 - the only part put in is a constant
"""SQL: one line of the log and the events behind it, of the run in ``fence``, whose ``last_log``
and ``last_event`` count them. $1 is the run, $2 to $4 the line, $5 and $6 the events, $7 when."""
