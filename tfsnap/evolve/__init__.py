"""The search for an efficient UNet: SnapFusion's Algorithm 1."""
