from __future__ import annotations

import signal
import sys

import pytest

from recascade.data.cluster import ray_cluster
from recascade.errors import ConfigurationError, MissingDependencyError


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("127.0.0.1:1", r"Nobody answers at 127\.0\.0\.1:1"),
        ("ray://127.0.0.1:1", r"Nobody answers at ray://127\.0\.0\.1:1"),
        ("the-cluster", "is no address; write auto"),
        ("host:port", "is no address; write auto"),
    ],
)
def test_where_no_cluster_is(address: str, sentence: str) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ConfigurationError, match=sentence), ray_cluster(address):
        pytest.fail("there is a cluster")
    assert signal.getsignal(signal.SIGTERM) is handler


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'recascade\[ray\]'"), ray_cluster():
        pytest.fail("there is a cluster")
