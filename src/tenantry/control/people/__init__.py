"""Who signs in to the control room, and how: passwords, second factors, one-time links, an OIDC provider."""
