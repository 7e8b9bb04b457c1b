"""Interpolations between any two latents are numbers, and lie on the great circle wherever there is one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fused_gan.models.sampler import between

U = torch.tensor([[0.6, -0.8, 0.3, 1.1]])
WITHOUT_A_CIRCLE: dict[str, tuple[Tensor, Tensor]] = {
    "equal": (U, U),
    "the same direction": (U, 3 * U),
    "almost the same direction": (U, U + 1e-7),
    "opposite": (U, -U),
    "almost opposite": (U, -U + 1e-6),
    "from the origin": (0 * U, U),
    "one dimension": (torch.tensor([[0.5], [0.5], [-2.0]]), torch.tensor([[1.5], [-1.0], [-2.0]])),
}


@pytest.mark.parametrize(("first", "last"), WITHOUT_A_CIRCLE.values(), ids=WITHOUT_A_CIRCLE)
def test_without_a_circle_the_way_is_straight(first: Tensor, last: Tensor) -> None:
    way = torch.linspace(0, 1, 9)[None, :, None]
    torch.testing.assert_close(between(first, last, 9), torch.lerp(first[:, None], last[:, None], way))


def test_on_a_circle_the_length_goes_from_one_to_the_other() -> None:
    first, last = torch.randn(2, 20, 16, dtype=torch.float64)
    last *= (first.norm(dim=1) / last.norm(dim=1))[:, None]
    ways = between(first, last, 7)
    torch.testing.assert_close(ways[:, 0], first)
    torch.testing.assert_close(ways[:, -1], last)
    torch.testing.assert_close(ways.norm(dim=2), first.norm(dim=1)[:, None].expand(20, 7))
    angles = torch.nn.functional.cosine_similarity(ways[:, :-1], ways[:, 1:], dim=2)
    torch.testing.assert_close(angles, angles[:, :1].expand(20, 6))
