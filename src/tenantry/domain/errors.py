"""Errors that the gateway itself answers, in the shape of the Claude API (reference 3.1 and 3.6).

An error is a class: its docstring is the default message, its attributes carry the HTTP status, the API's
`error.type` and whether a client may retry. `x-should-retry: false` is what keeps SDKs and Claude Code from repeating
a request that cannot succeed (reference 0, fact 4).
"""

from __future__ import annotations

import json
import math


class ApiError(Exception):
    """The request could not be served."""

    status = 500
    error_type = "api_error"
    should_retry: bool | None = None
    retry_after_seconds: int | None = None
    # What it is counted as for its tenant; "" is not counted.
    reason = ""
    # Set where the tenant is known though the request was refused before it was admitted.
    tenant_id: str | None = None
    # The API's finer code, which SDKs act on (reference 3.2).
    error_code = ""
    # Where two causes must be indistinguishable, not even the request id may vary in the body (DESIGN 4.3).
    uniform = False

    def __init__(self, message: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        super().__init__(self.message)

    def body(self, request_id: str) -> bytes:
        """The JSON body, with `request_id` unless the answer has to be uniform."""
        error: dict[str, object] = {"type": self.error_type, "message": self.message}
        if self.error_code:
            error["details"] = {"error_code": self.error_code}
        document: dict[str, object] = {"type": "error", "error": error}
        if not self.uniform:
            document["request_id"] = request_id
        return json.dumps(document, ensure_ascii=False).encode()

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The retry advice as header fields."""
        fields: list[tuple[bytes, bytes]] = []
        if self.retry_after_seconds is not None:
            fields.append((b"retry-after", b"%d" % self.retry_after_seconds))
        if self.should_retry is not None:
            fields.append((b"x-should-retry", b"true" if self.should_retry else b"false"))
        return fields


class InvalidRequest(ApiError):
    """The request is not valid."""

    status = 400
    error_type = "invalid_request_error"


class ModelNotAllowed(InvalidRequest):
    """This model is not allowed for this key."""

    should_retry = False


class NotAllowed(InvalidRequest):
    """The request asks for something that is not allowed for this key."""

    should_retry = False


class ThreadUnsupported(NotAllowed):
    """thread: message threads are not supported on this endpoint. Send the whole conversation."""

    # With this code SDKs send the whole conversation instead (reference 3.6).
    error_code = "thread_unsupported_request"


class ObjectIdRefused(NotAllowed):
    """An id of something upstream is not accepted on this endpoint."""

    reason = "object_id"


class PolicyBlocked(ApiError):
    """Blocked by policy."""

    status = 400
    error_type = "policy_blocked"
    should_retry = False


class MissingTenant(InvalidRequest):
    """Missing tenant identifier"""

    should_retry = False


class AuthenticationFailed(ApiError):
    """Invalid gateway API key."""

    status = 401
    error_type = "authentication_error"
    should_retry = False


class MissingKey(AuthenticationFailed):
    """A gateway API key is required, as `x-api-key` or as `Authorization: Bearer`."""


class ConflictingKeys(AuthenticationFailed):
    """`x-api-key` and `Authorization` name different keys. Send one gateway key."""


class UpstreamKeyPresented(AuthenticationFailed):
    """This endpoint takes the gateway key that your agency issued (`sk-proxy-...`), not an Anthropic key or login."""


class PermissionDenied(ApiError):
    """This key may not do that."""

    status = 403
    error_type = "permission_error"
    should_retry = False


class KeyNotActive(PermissionDenied):
    """This gateway key is revoked or expired. Ask your agency for a new one."""

    reason = "key_not_active"


class TenantDisabled(PermissionDenied):
    """This account is disabled. Ask your agency."""

    reason = "tenant_disabled"


class ForeignTenant(PermissionDenied):
    """This key does not belong to the tenant that the request names."""

    uniform = True


class NotFound(ApiError):
    """Not found"""

    status = 404
    error_type = "not_found_error"


class RequestTimedOut(ApiError):
    """The request did not arrive in time."""

    status = 408
    error_type = "timeout_error"


class RequestTooLarge(ApiError):
    """Request exceeds the maximum size of 32 MB"""

    status = 413
    error_type = "request_too_large"


class TooManyBodies(ApiError):
    """Too many large requests of this account are coming or waiting at once. Try again shortly."""

    status = 429
    error_type = "rate_limit_error"
    reason = "bodies_in_flight"
    retry_after_seconds = 1


class NoRoomForBodies(ApiError):
    """The gateway holds too many large requests at once. Try again shortly."""

    status = 503
    reason = "bodies_of_all"
    retry_after_seconds = 1


class TooManyConnections(ApiError):
    """Too many connections of this account are open. Close some, or use them for several requests."""

    status = 429
    error_type = "rate_limit_error"
    reason = "connections"
    retry_after_seconds = 1


class ExpectationFailed(InvalidRequest):
    """Only `Expect: 100-continue` is understood."""

    status = 417


class HeadTooLarge(InvalidRequest):
    """The request's header fields exceed 64 KiB."""

    status = 431


class RateLimited(ApiError):
    """A limit of this account is reached. `reason` is the limit's name, `seconds` how long until it gives again."""

    status = 429
    error_type = "rate_limit_error"

    def __init__(self, message: str, reason: str, seconds: float) -> None:
        super().__init__(message)
        self.reason = reason
        # A second is the smallest step of `retry-after`; rounding down would make it untrue.
        self.retry_after_seconds = max(1, math.ceil(seconds))


class CredentialSpent(ApiError):
    """The upstream account behind this endpoint has reached its own limit of money. Ask your agency."""

    status = 429
    error_type = "rate_limit_error"
    should_retry = False
    reason = "upstream_spend_cap"


class BudgetReached(ApiError):
    """The budget of this account is reached. Ask your agency."""

    # The API's own status for money (reference 3.2). 429 is repeated by clients that do not know `x-should-retry`, and
    # slept on until the period ends by those that obey `retry-after` alone (docs/decisions/0014).
    status = 402
    error_type = "billing_error"
    should_retry = False
    reason = "budget"

    def __init__(
        self,
        message: str | None = None,
        retry_after_seconds: int | None = None,
        fields: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self._fields = fields or []

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The retry advice, and what Claude Code shows of a budget (reference 7.4)."""
        return super().headers() + self._fields


class BudgetInUse(ApiError):
    """The rest of the budget is reserved for requests in flight. Wait for one to end."""

    status = 429
    error_type = "rate_limit_error"
    reason = "budget_in_use"
    # As for sessions: what is reserved comes free when some answer ends.
    retry_after_seconds = 1


class JournalDown(ApiError):
    """The gateway cannot record requests at the moment, so it forwards none. Try again shortly."""

    status = 503
    retry_after_seconds = 1


class NotReady(ApiError):
    """The gateway is starting or stopping. Try again shortly."""

    status = 503
    retry_after_seconds = 1


class AnotherGateway(ApiError):
    """Another gateway of this site serves this account. Try again."""

    status = 503
    retry_after_seconds = 1
    reason = "another_gateway"


class StoreAway(ApiError):
    """The gateway has not heard from its store for too long to know what this account may spend. Try again."""

    status = 503
    retry_after_seconds = 2
    reason = "store_away"


class NoCredential(ApiError):
    """No upstream credential is set for this account. Ask your agency."""

    status = 503
    should_retry = False
    reason = "no_credential"


class UpstreamDown(ApiError):
    """Upstream unavailable, try again."""

    status = 529
    error_type = "overloaded_error"
    reason = "upstream_down"


class UpstreamTimedOut(ApiError):
    """The upstream did not answer in time."""

    status = 504
    error_type = "timeout_error"


class UpstreamBroken(ApiError):
    """The upstream sent an answer that is not valid HTTP, or broke it off."""

    status = 502
