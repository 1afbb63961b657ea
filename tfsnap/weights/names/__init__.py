"""What every tensor of every network is called in each layout, as tables made from a config."""
