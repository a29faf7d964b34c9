"""Current clients from their registries against a real gateway: `make test-clients` (docs/conformance.md)."""
