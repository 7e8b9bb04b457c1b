"""Holds the real images of a run in memory, and gives batches of them by index."""

from __future__ import annotations

import torch
from torch import Tensor

from fused_gan.base.memory import memory_for
from fused_gan.data import ImageData
from fused_gan.data.images import from_uint8
from fused_gan.systems.config import Place


class Batches:
    """Images and labels of a run, ready for its steps.

    On the device, images are kept in the networks' value range and dtype, because no loading process keeps up with ten
    thousand steps per second. On the host they are kept as bytes, and each batch is converted. The values are the same.

    Args:
        data: the images and labels.
        value_range: (low, high) that pixels 0…255 are mapped to.
        dtype: the type of the batches' images.
        device: the device of the batches.
        place: "device", "host", or "auto" for the device if half of its free memory is enough.
    """

    def __init__(
        self,
        data: ImageData,
        value_range: tuple[float, float],
        dtype: torch.dtype,
        device: torch.device,
        place: Place = "auto",
    ) -> None:
        _, channels, height, width = data.images.shape
        self.shape = channels, height, width
        self.device, self.dtype, self._value_range = device, dtype, value_range
        needed = data.images.numel() * dtype.itemsize
        self.on_host = place == "host" or (place == "auto" and 2 * needed > free_memory(device))
        self._images = data.images
        less = "a smaller --image-size takes less" if self.on_host else "--data-place host takes less"
        with memory_for(f"{len(data.images):,} images of {channels}×{height}×{width} on {device}", less):
            if not self.on_host:
                self._images = from_uint8(data.images.to(device), value_range, dtype)
            elif device.type == "cuda":
                self._images = data.images.pin_memory()  # pinned for asynchronous copies to the device
            self._labels = None if data.labels is None else data.labels.to(self._images.device)

    def __len__(self) -> int:
        return len(self._images)

    def draw(self, count: int, random: torch.Generator) -> Tensor:
        """Return indices (count,) int64, drawn with replacement, on the generator's device.

        The losses are expectations over the data, so there are no epochs and no shuffling.
        """
        return self.draw_into(torch.empty(count, dtype=torch.int64, device=random.device), random)

    def draw_into(self, indices: Tensor, random: torch.Generator) -> Tensor:
        """Fill `indices` as `draw` does, and return them."""
        return indices.random_(len(self), generator=random)

    def take(self, indices: Tensor) -> Tensor:
        """Return the images (B, C, H, W) at `indices`, in the value range, on the device."""
        if not self.on_host:
            return self._images.index_select(0, indices)
        images = self._images.index_select(0, indices.to("cpu"))
        return from_uint8(images.to(self.device, non_blocking=True), self._value_range, self.dtype)

    def labels(self, indices: Tensor) -> Tensor:
        """Return the class labels (B,) int64 at `indices`, on the device. The data must have labels."""
        assert self._labels is not None
        return self._labels.index_select(0, indices.to(self._labels.device)).to(self.device)


def free_memory(device: torch.device) -> int:
    """Return how many bytes of a device's memory are free."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    with open("/proc/meminfo", encoding="ascii") as file:
        facts = dict(line.split(":") for line in file)
    return int(facts["MemAvailable"].split()[0]) * 1024
