"""Experiments: each file has a `get_config(variant)` that returns a ConfigDict for a tool."""
