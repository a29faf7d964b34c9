"""The portal of a client."""
