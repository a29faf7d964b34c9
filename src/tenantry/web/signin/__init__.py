"""Signing in: the door for people, and the pages in front of it and about it."""
