"""A package: torch-fidelity installs one of this name, and a mere folder gives way to it."""
