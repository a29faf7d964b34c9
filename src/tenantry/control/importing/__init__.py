"""From the configuration of another proxy to `tenantry.toml` and `tenants.toml`. Nothing is dropped in silence."""
