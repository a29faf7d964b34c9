"""Tenants as a file: read, compared with the store, applied in one transaction, and compared again."""
