"""The closed tables of error codes (SPEC API-1): what each means, and what to do. Pure.

``HTTP_ERRORS`` are the codes that an answer can have, ``RUN_ERRORS`` those of the ``error`` of a
run that failed. The OpenAPI document and docs/reference/errors.md are made of them; tests hold that
nothing is raised that is not here, and that everything here is raised.
"""

from typing import NamedTuple


class HttpError(NamedTuple):
    """A code with the one status that it is answered with."""

    code: str
    status: int
    meaning: str
    remedy: str


class RunError(NamedTuple):
    code: str
    meaning: str
    remedy: str


HTTP_ERRORS = (
    HttpError(
        "InvalidInput",
        400,
        "The request is not what the route takes.",
        "Correct what `details.violations` name, each by its JSON pointer.",
    ),
    HttpError(
        "InvalidAgentConfig",
        400,
        "The agent's document has something wrong, or names what this installation lacks.",
        "Correct what `details.violations` name; they are all there at once.",
    ),
    HttpError(
        "BadArchive",
        400,
        "The uploaded archive is damaged, too large, or holds what no workspace takes.",
        "Pack regular files and folders only, with relative names, as tar or tar.gz.",
    ),
    HttpError(
        "Unauthenticated",
        401,
        "The API key is missing, malformed, unknown, expired or revoked; see `details.reason`.",
        "Send `Authorization: Bearer chk_…` with a key that is valid.",
    ),
    HttpError(
        "AgentAccessDenied",
        403,
        "The key lacks a scope, or the agent is not yours to do this with.",
        "Use a key with `details.missing_scopes`, or ask the agent's owner or an admin.",
    ),
    HttpError(
        "InsufficientPermissions",
        403,
        "Your role is too low, or the run is neither yours nor yours to control.",
        "Ask an owner of your organization, or whoever started the run.",
    ),
    HttpError(
        "VisibilityViolation",
        403,
        "The agent belongs to your organization and is not shared with you.",
        "Ask its owner or an admin to share it.",
    ),
    HttpError(
        "OrganizationLimitExceeded",
        403,
        "The organization has used up a limit of its tier: agents, or bytes of uploads.",
        "Delete what is not needed, or have the tier raised; waiting does not help.",
    ),
    HttpError(
        "AgentNotFound",
        404,
        "There is no such agent, or none that you may know of.",
        "See `details.nearest`, or list the agents.",
    ),
    HttpError(
        "VersionNotFound",
        404,
        "The agent has no version of this number.",
        "Use one of `details.versions`, or leave the version out.",
    ),
    HttpError(
        "ExecutionNotFound",
        404,
        "There is no such execution, or none that you may know of.",
        "List the executions; see that the key is of the organization that started it.",
    ),
    HttpError(
        "UploadNotFound",
        404,
        "There is no such upload of the kind that is needed, or it is not yours.",
        "Upload it and use the id in the answer.",
    ),
    HttpError(
        "KeyNotFound",
        404,
        "There is no such key, or none that you may see.",
        "List the keys; `id` is what to give.",
    ),
    HttpError(
        "MemberNotFound",
        404,
        "The organization has no such member.",
        "List the members; `user_id` is what to give.",
    ),
    HttpError(
        "RouteNotFound",
        404,
        "There is nothing at this path.",
        "Compare the path with those of the OpenAPI document.",
    ),
    HttpError(
        "MethodNotAllowed",
        405,
        "The path does not take this method.",
        "Use one of those in the header `Allow`.",
    ),
    HttpError(
        "DuplicateAgentName",
        409,
        "Another agent of the organization has the name.",
        "Choose another name, or delete that agent.",
    ),
    HttpError(
        "DuplicateAgentSlug",
        409,
        "Another agent of the organization has the slug.",
        "Choose another slug, or leave it out.",
    ),
    HttpError(
        "AgentArchived",
        409,
        "The agent is archived and does not change any more.",
        "Create another one.",
    ),
    HttpError(
        "AgentNotExecutable",
        409,
        "The agent is deactivated or archived, or the version is not published.",
        "Activate it or publish it; the message says which.",
    ),
    HttpError(
        "VersionConflict",
        409,
        "The agent's versions do not allow the change: a number too low, or nothing to publish.",
        "Leave the number out, or change the configuration first, which opens a draft.",
    ),
    HttpError(
        "InvalidTransition",
        409,
        "The execution is in a state from which this is not possible.",
        "Look at the execution; `details.from` is its state.",
    ),
    HttpError(
        "WaitClosed",
        409,
        "The execution waits for something else than what was sent.",
        "Look at its `waiting_for`; `details.wait` is the number of what it waits for now.",
    ),
    HttpError(
        "AlreadyApproved",
        409,
        "You have approved the call before, and it needs other persons too.",
        "Have somebody else approve it.",
    ),
    HttpError(
        "PreconditionFailed",
        412,
        "The resource has changed since the ETag in `If-Match`.",
        "Read it again, apply the change to what is there, and send the new ETag.",
    ),
    HttpError(
        "PayloadTooLarge",
        413,
        "The body is larger than is taken here.",
        "Send files as uploads, and large folders in parts.",
    ),
    HttpError(
        "UnsupportedMediaType",
        415,
        "The body is not said to be JSON.",
        "Send `Content-Type: application/json`.",
    ),
    HttpError(
        "IdempotencyKeyReused",
        422,
        "The Idempotency-Key was used for another request in the last 24 hours.",
        "Send a new key with a new request.",
    ),
    HttpError(
        "RateLimitExceeded",
        429,
        "You have as many active runs as your tier allows.",
        "Wait `Retry-After` seconds, or cancel a run.",
    ),
    HttpError(
        "InternalError",
        500,
        "A defect of Chargehand; the operator's log has its cause under the request id.",
        "Try again; tell your operator the `request_id` if it happens again.",
    ),
    HttpError(
        "DatabaseUnavailable",
        503,
        "PostgreSQL does not answer just now; nothing was half done.",
        "Try again after `Retry-After` seconds.",
    ),
)

RUN_ERRORS = (
    RunError(
        "ModelProviderFailed",
        "The model's provider gave no usable answer, also after further attempts.",
        "Look at `details.attempts`; check the provider's status and its key.",
    ),
    RunError(
        "ExecutionTimeout",
        "The run took longer than its wall time, or waited until a deadline.",
        "Raise `limits.wall_time_s` or the deadline that the message names, or give it less to do.",
    ),
    RunError(
        "ResourceExhausted",
        "The run has used up its steps, tokens, money or chunks, or made one call too often.",
        "Raise the limit that the message names, or give it less or something else to do.",
    ),
    RunError(
        "OutputInvalid",
        "The output does not fit the agent's output schema, also after a repair round.",
        "See `details.violations`; make the schema or the instructions plainer.",
    ),
    RunError(
        "WorkerLost",
        "The run lost its worker several times without completing a step.",
        "Look at the workers' logs and memory, then start it again.",
    ),
    RunError(
        "ExecutionFailed",
        "A defect of Chargehand ended the run; the worker's log has its cause.",
        "Tell your operator the execution's id.",
    ),
)

STATUS_OF_CODE = {error.code: error.status for error in HTTP_ERRORS}
