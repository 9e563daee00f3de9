from __future__ import annotations

import torch

from recascade.nn.squeeze_excitation import LightSqueezeExcitation


def test_fields_are_weighted_by_the_softmax_of_their_means() -> None:
    torch.manual_seed(0)
    excite = LightSqueezeExcitation([2, 3, 1])
    inputs = torch.randn(4, 6)
    fields = inputs.split([2, 3, 1], 1)
    weights = excite.excitation(torch.stack([field.mean(1) for field in fields], 1)).softmax(1)
    expected = torch.cat([field + field * weights[:, [number]] for number, field in enumerate(fields)], 1)
    torch.testing.assert_close(excite(inputs), expected)


def test_a_single_field_is_doubled() -> None:
    inputs = torch.randn(4, 3)
    torch.testing.assert_close(LightSqueezeExcitation([3])(inputs), 2 * inputs)
