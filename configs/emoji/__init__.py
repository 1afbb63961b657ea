"""Training on emoji: 13,793 captioned pictures in four styles."""
