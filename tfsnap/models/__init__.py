"""Networks built from a config: the UNet, the autoencoder and CLIP."""
