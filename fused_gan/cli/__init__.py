"""The command `fused-gan`."""
