"""Integer activations: calibration, graphs whose products are integers, and mixed precision."""
