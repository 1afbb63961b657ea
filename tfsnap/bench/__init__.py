"""How long a bundle takes, and what must be said with every such figure."""
