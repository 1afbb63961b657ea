"""Weights on disk: one store, keyed by layer addresses, strict about what it loads."""
