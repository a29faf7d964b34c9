"""Connections to upstreams: one pool per upstream and credential, so tenants never share a connection."""

from tenantry.gateway.upstream.connection import DROPPED_REUSED, INVALID, STALE, ResponseSink, UpstreamConnection
from tenantry.gateway.upstream.head import ResponseHead
from tenantry.gateway.upstream.pool import ConnectFailed, Connecting, Pool, Pools

__all__ = [
    "DROPPED_REUSED",
    "INVALID",
    "STALE",
    "ConnectFailed",
    "Connecting",
    "Pool",
    "Pools",
    "ResponseHead",
    "ResponseSink",
    "UpstreamConnection",
]
