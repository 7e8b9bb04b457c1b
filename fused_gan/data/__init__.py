"""Images to train on: data sets by name, and the user's own files and folders."""

from fused_gan.data.datasets import DATA_SETS, load
from fused_gan.data.image_data import ImageData

__all__ = ["DATA_SETS", "ImageData", "load"]
