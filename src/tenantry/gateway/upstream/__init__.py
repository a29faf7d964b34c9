"""Connections to upstreams: one pool per upstream and credential, so tenants never share a connection."""

from tenantry.gateway.upstream.connection import ResponseSink, UpstreamConnection
from tenantry.gateway.upstream.pool import ConnectFailed, Connecting, Pool, Pools

__all__ = ["ConnectFailed", "Connecting", "Pool", "Pools", "ResponseSink", "UpstreamConnection"]
