"""Training on emoji: 13,742 captioned pictures in four styles."""
