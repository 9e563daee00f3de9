from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from run_script import run_script
from safetensors.torch import load_file

from recascade.errors import ConfigurationError

WELL = ["", ""]
# Attention does not change when the same is added to all keys: the gradient of their bias is rounding error, which Adam
# scales up to whole steps.
NO_GRADIENT = ("key_value.bias",)


@pytest.fixture(scope="module")
def fits(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("several")
    run_script("several_processes", directory)
    return directory


@pytest.fixture(scope="module")
def problems(fits) -> dict[str, list[str]]:
    return json.loads((fits / "problems.json").read_text())


def curves(directory: Path) -> list[tuple[str, str, str, float]]:
    names = ("loss", "learning_rate", "ndcg@10")
    with (directory / "curves.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["name"] in names]
    return [(row["epoch"], row["step"], row["name"], float(row["value"])) for row in rows]


def assert_as_alone(fits: Path, name: str, alone: str) -> None:
    ours, theirs = curves(fits / name), curves(fits / alone)
    assert [line[:3] for line in ours] == [line[:3] for line in theirs]
    assert [line[3] for line in ours] == pytest.approx([line[3] for line in theirs], abs=1e-5)
    ours, theirs = load_file(fits / name / "weights.safetensors"), load_file(fits / alone / "weights.safetensors")
    assert ours.keys() == theirs.keys()
    for key in ours:
        if not key.endswith(NO_GRADIENT):
            torch.testing.assert_close(ours[key], theirs[key], atol=1e-5, rtol=0, msg=key)


@pytest.mark.parametrize(("name", "strategy"), [("sasrec", "ddp"), ("sasrec", "fsdp"), ("hstu", "ddp")])
def test_two_processes_make_the_steps_of_one(fits, problems, name, strategy) -> None:
    assert problems[f"{name}-{strategy}"] == WELL
    assert_as_alone(fits, f"{name}-{strategy}", f"{name}-alone")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_every_process_returns_the_kept_weights(fits, strategy) -> None:
    kept = load_file(fits / f"sasrec-{strategy}" / "weights.safetensors")
    for rank in range(2):
        held = load_file(fits / f"sasrec-{strategy}" / f"process-{rank}.safetensors")
        assert held.keys() == kept.keys()
        assert all(torch.equal(held[key], kept[key]) for key in kept)


def test_killed_process_ends_the_others_and_all_go_on_bit_for_bit(fits, problems) -> None:
    other, killed = problems["kill"]
    assert killed == "killed"
    assert other.startswith("LostProcessError: Another process of this run does not answer any more")
    assert problems["kill again"] == WELL
    assert curves(fits / "kill") == curves(fits / "undisturbed")
    ours, theirs = (load_file(fits / name / "weights.safetensors") for name in ("kill", "undisturbed"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("name", ["sharded-alone", "alone-sharded"])
def test_checkpoint_goes_on_with_other_processes_and_strategies(fits, problems, name) -> None:
    assert set(problems[name]) == {""}
    assert_as_alone(fits, name, "sasrec-alone")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_checkpoint_of_several_processes_holds_whole_tensors_and_no_code(fits, strategy) -> None:
    path = Path("checkpoints") / "last.ckpt"
    ours = torch.load(fits / f"sasrec-{strategy}" / path, weights_only=True)
    alone = torch.load(fits / "sasrec-alone" / path, weights_only=True)
    assert {key: value.shape for key, value in ours["state_dict"].items()} == {
        key: value.shape for key, value in alone["state_dict"].items()
    }
    for own, other in zip(ours["optimizer_states"], alone["optimizer_states"], strict=True):
        for index, moments in other["state"].items():
            if moments["exp_avg"].numel():
                assert {key: value.shape for key, value in own["state"][index].items()} == {
                    key: value.shape for key, value in moments.items()
                }


def test_signal_to_one_process_lets_all_keep_a_checkpoint(fits, problems) -> None:
    assert problems["interrupt"] == ["SystemExit: 143"] * 2
    assert problems["interrupt again"] == WELL
    assert curves(fits / "interrupt") == curves(fits / "undisturbed")


def test_loss_of_one_process_that_is_not_a_number_ends_all_alike(fits, problems) -> None:
    first, second = problems["not-a-number"]
    assert first == second
    assert first.startswith("TrainingError: The loss of step 3 is nan")


def test_out_of_memory_in_one_process_names_the_setting(problems) -> None:
    other, own = problems["out-of-memory"]
    assert own.startswith("TrainingError: The GPU has too little memory for a training step (it asked for 2.50 GiB")
    assert "trainer.batch_sequences (now 8)" in own and "goes on from the last checkpoint" in own
    assert other.startswith("LostProcessError")


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("settings", "trainer.learning_rate"),
        ("seed", "the seed"),
        ("model", "the model"),
        ("data", "the training data"),
        ("split", "the split"),
        ("names", "the item names"),
    ],
)
def test_processes_given_different_things_are_refused_at_the_start(fits, problems, what, named) -> None:
    first, second = problems[f"other-{what}"]
    assert first == second
    assert first.startswith(f"TrainingError: Process 1 differs from process 0 in {named}.")
    assert not (fits / f"other-{what}" / "checkpoints").exists()


def test_recurrent_network_is_not_sharded(problems) -> None:
    expected = "ConfigurationError: trainer.strategy is 'fsdp', which cannot share out a recurrent network"
    assert all(problem.startswith(expected) for problem in problems["recurrent"])


def test_more_devices_than_processes_are_refused(small_fit, tmp_path) -> None:
    with pytest.raises(ConfigurationError, match=r"devices is 2, but this machine has 1 training process\. Use"):
        small_fit.run_fit(tmp_path, devices=2)
