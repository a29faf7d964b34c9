"""The isolation proof: tries to cross from one tenant into another on a running gateway, and reports what it saw."""
