"""Tenantry: a self-hosted, multi-tenant gateway for the Claude API."""

__version__ = "0.1.0"
