from __future__ import annotations

from recascade.training.curves import HEADER, CurvesLogger


def test_lines_are_long_and_exact(tmp_path) -> None:
    logger = CurvesLogger(tmp_path / "curves.csv")
    logger.rewind(0)
    logger.log_metrics({"loss": 0.1 + 0.2, "epoch": 0}, 5)
    logger.log_metrics({"ndcg@10": 0.5, "recall@10": 1.0, "epoch": 1}, 9)
    assert (tmp_path / "curves.csv").read_text() == (
        HEADER + "1,5,loss,0.30000000000000004\n2,9,ndcg@10,0.5\n2,9,recall@10,1.0\n"
    )


def test_rewinding_drops_what_was_written_after_the_checkpoint(tmp_path) -> None:
    path = tmp_path / "curves.csv"
    path.write_text(HEADER + "1,5,loss,1.0\n1,10,loss,0.5\n2,12,loss,0.4\n2,14,lo")
    CurvesLogger(path).rewind(10)
    assert path.read_text() == HEADER + "1,5,loss,1.0\n1,10,loss,0.5\n"
