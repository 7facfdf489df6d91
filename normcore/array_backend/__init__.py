"""Backends: what one must supply, the one that serves every array library, and which is used."""
