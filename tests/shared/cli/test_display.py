from __future__ import annotations

from pathlib import Path

import pytest

from recascade.cli.display import _newest

HEAD = "epoch,step,name,value\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (None, (0, "")),
        ("", (0, "")),
        (HEAD, (0, "")),
        (HEAD + "1,8,loss,4.25\n", (1, "loss 4.25")),
        (HEAD + "1,8,loss,4.25\n1,8,ndcg@10,0.125\n1,8,memory_bytes,5e8\n", (1, "ndcg@10 0.125")),
        (HEAD + "2,16,ndcg@10,0.125\n3,2", (2, "ndcg@10 0.125")),
        (HEAD + "2,16,ndcg@10,0.125\n3,24,loss,", (0, "")),
    ],
)
def test_the_newest_value_of_curves_that_are_being_written(
    tmp_path: Path, text: str | None, shown: tuple[int, str]
) -> None:
    path = tmp_path / "curves.csv"
    if text is not None:
        path.write_text(text)
    assert _newest(path, "ndcg@10") == shown
