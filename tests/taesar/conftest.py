"""A small log of three domains, split."""

from __future__ import annotations

import pytest
from mixed_domains import mixed_log

from recascade.data.dataset import Dataset
from recascade.data.encode import encode
from recascade.data.encoded import EncodedSplit
from recascade.data.split import Split, make_split
from recascade.data.split_config import SplitConfig


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return mixed_log(tmp_path_factory.mktemp("mixed") / "log")


@pytest.fixture(scope="session")
def split(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Split:
    return make_split(dataset, SplitConfig(), tmp_path_factory.mktemp("mixed") / "split")


@pytest.fixture(scope="session")
def data(split: Split) -> EncodedSplit:
    return encode(split)
