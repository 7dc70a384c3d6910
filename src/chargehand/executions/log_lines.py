"""A line of a run's log is also an event of the run's stream (SPEC EXE-9, EXE-10). Pure.

The statement that inserts the line inserts the event too, so that there is never one without the
other, and gives it a number before those of its other events: ``done`` stays the last.
"""

AS_EVENT = """
    jsonb_build_object('id', seq, 'level', level, 'event_type', event_type, 'message', message,
        'context', context, 'at', to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
"""
"""SQL: the event's data, made of a row of ``logs``; what the route of the log shows of it."""
