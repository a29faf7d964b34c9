"""The errors that a client may meet: status, meaning, what to do. Every error class of the gateway has its row here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Advice:
    """One row of the table. `error_type` is `error.type` of the body."""

    status: int
    error_type: str
    meaning: str
    remedy: str


ADVICE = (
    Advice(
        400,
        "invalid_request_error",
        "The request is not valid, or asks for a model or value that this account may not use.",
        "Read the message: it names the field or the models you may use. Do not repeat the same request.",
    ),
    Advice(
        400,
        "policy_blocked",
        "The prompt is larger than this account may send.",
        "Start a new conversation, compact this one, or send less of the context.",
    ),
    Advice(
        401,
        "authentication_error",
        "The key is missing, mistyped or unknown, two different keys were sent, or an Anthropic key or Claude login "
        "was sent in place of the gateway key.",
        "Send your gateway key in one header. In Claude Code, log out of claude.ai.",
    ),
    Advice(
        402,
        "billing_error",
        "The budget of the period is used up, or the upstream's account has a payment problem; the message says which.",
        "It does not help to repeat: the message says when the period ends. Ask for a raise, or tell support.",
    ),
    Advice(
        403,
        "permission_error",
        "The key is revoked or expired, the account is disabled, or the path names another tenant.",
        "Check the endpoint; else ask for a new key.",
    ),
    Advice(404, "not_found_error", "There is no such path, model or object.", "Check the base URL and the id."),
    Advice(408, "timeout_error", "The request did not arrive in time.", "Send it again; SDKs do."),
    Advice(409, "conflict_error", "The upstream is busy with the same object.", "Send it again; SDKs do."),
    Advice(413, "request_too_large", "The request is larger than 32 MB.", "Send less, or in parts."),
    Advice(
        417, "invalid_request_error", "The client sent an `Expect` header other than `100-continue`.", "Leave it out."
    ),
    Advice(
        429,
        "rate_limit_error",
        "A limit of the table above is reached; the message says which.",
        "Wait as long as `retry-after` says; SDKs and Claude Code do. If it happens often, send fewer at once.",
    ),
    Advice(431, "invalid_request_error", "The header fields are larger than 64 KiB.", "Send fewer or shorter headers."),
    Advice(500, "api_error", "Something failed inside.", "Send it again later; report it with the `request-id`."),
    Advice(
        502,
        "api_error",
        "The upstream sent a broken answer.",
        "Send it again later; report it with the `request-id` if it stays.",
    ),
    Advice(
        503,
        "api_error",
        "The gateway is starting, stopping or cannot record requests, or no credential is set for the account.",
        "Wait as long as `retry-after` says; without that header, tell support.",
    ),
    Advice(
        504, "timeout_error", "The upstream did not answer in time.", "Send it again; use streaming for long answers."
    ),
    Advice(
        529,
        "overloaded_error",
        "The upstream is overloaded or cannot be reached.",
        "Wait and try again with growing pauses; SDKs do.",
    ),
)
