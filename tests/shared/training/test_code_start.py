"""Tables of codes that begin as what the codes say of their items."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from recascade.contracts.context import Context
from recascade.models.code_embedding import CodeEmbedding
from recascade.models.tiger import TIGER
from recascade.nn.losses import full_softmax
from recascade.tokenizers.config import ConflictConfig
from recascade.tokenizers.item_tokenizer import ItemTokenizer
from recascade.tokenizers.residual_kmeans import ResidualKMeans
from recascade.tokenizers.semantic_ids import SemanticIds
from recascade.training.code_start import start_from_content


@pytest.fixture
def ids() -> SemanticIds:
    """200 items of ten kinds, each cut into several clusters; ids of two levels and a digit."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((10, 16)) * 4
    vectors = (centres[np.arange(200) % 10] + random.standard_normal((200, 16))).astype(np.float32)
    tokenizer = ItemTokenizer(name="residual-k-means", quantiser=ResidualKMeans([60, 6], seed=0), normalise=False)
    return SemanticIds.build([str(item) for item in range(200)], vectors, tokenizer, conflicts=ConflictConfig("digit"))


def untrained(ids: SemanticIds) -> TIGER:
    torch.manual_seed(0)
    shape = {"dimension": 16, "heads": 2, "head_width": None, "hidden": 32, "encoder_blocks": 1, "decoder_blocks": 1}
    return TIGER(torch.from_numpy(ids.codes).long(), ids.sizes, causal=True, reading="items", **shape).eval()


def loss(model: TIGER, items: Tensor, targets: Tensor) -> Tensor:
    """Of the first code after each item alone."""
    context = Context(items, items, torch.zeros_like(items), torch.arange(len(items) + 1))
    codes = model.history.item_codes[targets]
    states = model.target_states(context, torch.arange(len(items)), codes, None)
    return full_softmax(states[:, 0], model.output_vectors(0), codes[:, 0])


def after_training(model: TIGER) -> float:
    """Loss on items that training did not see, where the next item is always of the same kind."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    items = torch.arange(200)
    for _ in range(40):
        optimizer.zero_grad()
        loss(model, items[:100], items[100:]).backward()
        optimizer.step()
    with torch.no_grad():
        return loss(model, items[100:], items[:100]).item()


def test_what_is_learnt_of_some_items_holds_for_others_like_them(ids: SemanticIds) -> None:
    informed = untrained(ids)
    start_from_content(informed, ids)
    assert after_training(informed) < 0.7 * after_training(untrained(ids))


def test_digits_keep_their_random_start(ids: SemanticIds) -> None:
    model = untrained(ids)
    before = model.embedding.table.detach().clone()
    start_from_content(model, ids)
    assert torch.equal(model.embedding.table[66:], before[66:])
    assert not (model.embedding.table[:66] == before[:66]).any()
    assert torch.equal(model.embedding.table, torch.cat([model.output.table[:66], before[66:]]))


def test_rows_are_scaled_together_and_rows_of_zeros_are_none() -> None:
    table = CodeEmbedding((3, 2), 4)
    before = table.table.detach().clone()
    rows = torch.tensor([[3.0, 0, 0, 0], [0, 0, 0, 0], [0, 1.0, 0, 0]])
    table.start_from(rows, 0.1)
    assert table.table[[0, 2]].square().mean().sqrt().item() == pytest.approx(0.1)
    assert torch.equal(table.table[0] / table.table[2].norm(), rows[0])
    assert torch.equal(table.table[[1, 3, 4]], before[[1, 3, 4]])
