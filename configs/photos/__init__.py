"""Training on pictures of your own, see docs/training.md; sized for two cores."""
