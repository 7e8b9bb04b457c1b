"""Images to train on: data sets by name, files and folders of people's own."""

from fused_gan.data.datasets import DATA_SETS, ImageData, load

__all__ = ["DATA_SETS", "ImageData", "load"]
