"""The simulated cluster: its traffic, what holds whatever happens, and what the relay is worth in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recascade.errors import ConfigurationError
from recascade_relaygr.relay.instance import Instance
from recascade_relaygr.simulation.answers import Objective
from recascade_relaygr.simulation.arms import ARMS
from recascade_relaygr.simulation.config import WorkloadConfig
from recascade_relaygr.simulation.cost_tables import accelerator_like
from recascade_relaygr.simulation.faults import FAULTS, FaultyDevice, leaks
from recascade_relaygr.simulation.search import Timing, Trial, longest_history, most_load, try_setting
from recascade_relaygr.simulation.setting import Change, Setting
from recascade_relaygr.simulation.simulator import Simulation
from recascade_relaygr.simulation.workload import Workload, draw_workload
from recascade_relaygr.study.cells import compose
from recascade_relaygr.study.config import REFERENCE

OBJECTIVE = Objective()


def reference(arm: str = "relay", *, instances: int = 1, memory: dict[str, float] | None = None) -> Setting:
    relay = compose({**REFERENCE, **{f"relay.{key}.capacity_mib": value for key, value in (memory or {}).items()}})[2]
    return Setting(ARMS[arm], relay, accelerator_like(), instances=instances)


def attempt(setting: Setting, workload: WorkloadConfig, seconds: float = 8.0, warm_up: float = 1.0) -> Trial:
    return try_setting(setting, workload, OBJECTIVE, Timing(warm_up, seconds), 0)


class TestWorkload:
    @given(
        st.floats(1, 80),
        st.floats(0, 0.9),
        st.floats(0, 1),
        st.floats(1, 10),
        st.integers(0, 2**31),
    )
    @settings(max_examples=40)
    def test_requests_come_in_order_within_their_time(
        self, rate: float, reuse: float, long_share: float, burst: float, seed: int
    ) -> None:
        config = WorkloadConfig(rate=rate, reuse=reuse, long_share=long_share, burst=burst)
        drawn = draw_workload(config, instances=2, seconds=20.0, history=60.0, seed=seed)
        assert (np.diff(drawn.times) >= 0).all()
        assert ((drawn.times >= 0) & (drawn.times < 20.0)).all()
        assert ((drawn.earlier_times >= -60.0) & (drawn.earlier_times < 0)).all()
        assert (drawn.slacks >= config.least_slack_ms / 1e3).all()
        assert set(drawn.tokens.tolist()) <= {config.prefix_tokens, config.short_tokens}
        everyone = np.concatenate([drawn.users, drawn.earlier_users])
        lengths = np.concatenate([drawn.tokens, drawn.earlier_tokens])
        assert len(set(zip(everyone.tolist(), lengths.tolist(), strict=True))) == len(set(everyone.tolist()))

    @pytest.mark.parametrize("reuse", [0.0, 0.5, 0.9])
    def test_the_mean_rate_is_as_asked_and_so_many_users_return(self, reuse: float) -> None:
        config = WorkloadConfig(rate=100, reuse=reuse, gap_seconds=5.0)
        drawn = draw_workload(config, instances=1, seconds=200.0, history=400.0, seed=3)
        assert len(drawn.times) == pytest.approx(20_000, rel=0.15)
        known = set(drawn.earlier_users.tolist())
        returned = 0
        for user in drawn.users.tolist():
            returned += user in known
            known.add(user)
        assert returned / len(drawn.users) == pytest.approx(reuse, abs=0.03)

    def test_bursts_crowd_requests_and_keep_their_mean(self) -> None:
        config = WorkloadConfig(rate=200, reuse=0.0, burst=5.0, burst_seconds=2.0, burst_every_seconds=20.0)
        drawn = draw_workload(config, instances=1, seconds=200.0, history=0.0, seed=1)
        crowded = int((drawn.times % 20 < 2).sum())
        calm = len(drawn.times) - crowded
        assert crowded / 2 / (calm / 18) == pytest.approx(5.0, rel=0.06)
        assert len(drawn.times) == pytest.approx(40_000, rel=0.03)

    def test_last_visits_name_each_user_once_and_leave_out_what_no_memory_would_hold(self) -> None:
        config = WorkloadConfig(rate=50, reuse=0.8, gap_seconds=2.0)
        drawn = draw_workload(config, instances=1, seconds=1.0, history=100.0, seed=1)
        every = list(drawn.last_visits(10**12))
        users = [visit.user for visit in every]
        assert len(users) == len(set(users)) == len(set(drawn.earlier_users.tolist()))
        assert [visit.time for visit in every] == sorted(visit.time for visit in every)
        some = list(drawn.last_visits(100 * config.prefix_tokens))
        assert some == every[-125:]

    def test_impossible_traffic_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"workload\.reuse is 1\.5"):
            compose({"workload.reuse": 1.5})
        with pytest.raises(ConfigurationError, match=r"workload\.slow_hop_ms"):
            compose({"workload.slow_hop_ms": 0.1})


class TestSimulation:
    def test_the_same_seed_gives_the_same_answers(self) -> None:
        workload = WorkloadConfig(rate=60, prefix_tokens=3072)
        first, second = (attempt(reference(instances=2), workload, 3.0).simulation for _ in range(2))
        assert first.answers == second.answers

    def test_the_relay_under_it_is_the_one_that_serves(self) -> None:
        simulation = attempt(reference(), WorkloadConfig(rate=20), 1.0).simulation
        assert all(type(instance) is Instance for instance in simulation.cluster.instances.values())

    @pytest.mark.parametrize("arm", ARMS)
    def test_every_request_is_answered_once(self, arm: str) -> None:
        trial = attempt(reference(arm, instances=2), WorkloadConfig(rate=50), 3.0)
        assert sorted(trial.simulation.answers.numbers) == list(range(trial.simulation.offered))
        assert trial.simulation.answers.failed == 0

    def test_alone_a_request_takes_what_the_tables_say(self) -> None:
        setting, workload = reference("full"), WorkloadConfig(rate=0.5, prefix_tokens=2048)
        answers = attempt(setting, workload, 60.0).simulation.answers
        factors = np.asarray(answers.served) / setting.durations.costs.full_table.seconds(2048)
        assert min(setting.durations.factors) <= factors.min()
        assert factors.max() <= max(setting.durations.factors)

    def test_with_slack_to_spare_ranking_takes_what_ranking_on_a_prefix_takes(self) -> None:
        setting, workload = reference(), WorkloadConfig(rate=4, prefix_tokens=3072, slack_ms=150.0)
        trial = attempt(setting, workload, 30.0)
        assert trial.summary is not None
        assert trial.summary.paths["relay"] > 0.98
        assert trial.summary.rank_p50 == pytest.approx(setting.durations.costs.rank_table.seconds(3072), rel=0.02)

    def test_more_instances_bear_as_much_each(self) -> None:
        kept = []
        for instances in (1, 6):
            summary = attempt(reference("full", instances=instances), WorkloadConfig(rate=40), 6.0).summary
            assert summary is not None
            kept.append(summary.kept)
        assert kept[1] >= kept[0] - 0.01

    def test_requests_of_the_warm_up_do_not_count(self) -> None:
        trial = attempt(reference("full"), WorkloadConfig(rate=30), 4.0, warm_up=2.0)
        assert trial.summary is not None
        assert trial.summary.requests == int((trial.simulation.times >= 2.0).sum())

    def test_a_shortened_history_is_no_whole_one(self) -> None:
        trial = attempt(reference("truncated"), WorkloadConfig(rate=10, prefix_tokens=3072))
        assert trial.summary is not None
        assert trial.summary.kept == 0.0
        assert 0 < trial.summary.tokens < 3072

    def test_without_affinity_signals_miss_their_requests(self) -> None:
        workload = WorkloadConfig(rate=10, prefix_tokens=3072, reuse=0.0)
        with_it, without = (attempt(reference(arm, instances=4), workload).summary for arm in ("relay", "no-affinity"))
        assert with_it is not None
        assert without is not None
        on_prefix = [each.paths["relay"] + each.paths["relay_joined"] for each in (with_it, without)]
        # The ticket is not honoured, so one in four meets its prefix by chance.
        assert on_prefix[0] > 0.9
        assert on_prefix[1] < 0.4

    @pytest.mark.parametrize(
        ("less", "more", "workload"),
        [
            ({"cache": 60.0}, {"cache": 4096.0}, {}),
            ({"expander": 0.0}, {"expander": 65_536.0}, {"reuse": 0.9, "gap_seconds": 2.0}),
        ],
    )
    def test_more_memory_is_no_worse(
        self, less: dict[str, float], more: dict[str, float], workload: dict[str, Any]
    ) -> None:
        traffic = replace(WorkloadConfig(rate=60, prefix_tokens=3072), **workload)
        kept = [attempt(reference(memory=memory), traffic).summary for memory in (less, more)]
        assert kept[0] is not None
        assert kept[1] is not None
        assert kept[1].kept > kept[0].kept + 0.05

    def test_more_slack_is_no_worse(self) -> None:
        kept = []
        for slack in (0.0, 20.0, 60.0, 120.0):
            workload = WorkloadConfig(rate=25, prefix_tokens=3072, reuse=0.0, slack_ms=slack, least_slack_ms=0.0)
            summary = try_setting(reference(), workload, Objective(total_seconds=1.0), Timing(1.0, 8.0), 0).summary
            assert summary is not None
            kept.append(summary.kept)
        assert kept == sorted(kept)
        assert kept[-1] > kept[0] + 0.5


class TestFaults:
    @pytest.mark.parametrize("name", FAULTS)
    def test_everything_is_answered_within_the_memory_and_nothing_is_left_over(self, name: str) -> None:
        setting, workload = FAULTS[name](
            reference(instances=3), WorkloadConfig(rate=25, prefix_tokens=3072, gap_seconds=3.0), 8.0
        )
        trial = attempt(setting, workload, 8.0)
        simulation, cluster = trial.simulation, trial.simulation.cluster
        assert sorted(simulation.answers.numbers) == list(range(simulation.offered))
        assert simulation.answers.failed == 0
        assert cluster.peak_bytes <= min(each.cache.capacity_bytes for each in cluster.instances.values())
        assert all(each.expander.bytes <= each.expander.capacity for each in cluster.instances.values())
        assert leaks(cluster) == dict.fromkeys(leaks(cluster), 0)

    def test_faults_do_happen(self) -> None:
        workload = WorkloadConfig(rate=25, prefix_tokens=3072)
        setting, workload = FAULTS["prefix runs raise"](reference(), workload, 8.0)
        statistics = attempt(setting, workload).simulation.cluster.instances["instance-0"].statistics
        assert statistics.fills["prefill-failed"] > 20

    def test_memory_is_bounded_at_every_moment(self) -> None:
        setting, workload = FAULTS["room for two prefixes"](
            reference(), WorkloadConfig(rate=80, prefix_tokens=3072), 3.0
        )
        simulation = Simulation(setting, drawn(workload, 3.0), 0)
        instance = simulation.cluster.instances["instance-0"]
        highest = 0
        for moment in np.arange(0.0, 3.2, 5e-4):
            simulation.run_until(float(moment))
            highest = max(highest, instance.cache.reserved_bytes)
            assert instance.cache.reserved_bytes <= instance.cache.capacity_bytes
            assert instance.expander.bytes <= instance.expander.capacity
        assert highest > instance.cache.capacity_bytes / 2

    def test_an_hour_of_failures_leaves_nothing_behind(self) -> None:
        workload = WorkloadConfig(rate=0.7, prefix_tokens=3072, gap_seconds=10.0, burst=10.0)
        setting = replace(
            reference(instances=3, memory={"cache": 128.0, "expander": 512.0}),
            wrap=lambda device: FaultyDevice(device, ("prefill", "reload", "copy", "rank"), MemoryError()),
            signal_fault=lambda number: ("lost", "twice", "late", "", "")[number % 5],
            changes=[Change(900.0, "lose", "instance-0"), Change(1800.0, "join", "newcomer"),
                     Change(2700.0, "drain", "instance-1")],
        )  # fmt: skip
        trial = attempt(setting, workload, 3600.0)
        simulation, cluster = trial.simulation, trial.simulation.cluster
        assert simulation.offered > 5000
        assert sorted(simulation.answers.numbers) == list(range(simulation.offered))
        assert leaks(cluster) == dict.fromkeys(leaks(cluster), 0)
        for instance in cluster.instances.values():
            assert len(instance.cache) * instance.cache.bytes_of(3072) == instance.cache.reserved_bytes
            assert instance.expander.bytes <= instance.expander.capacity

    def test_what_a_crashed_instance_was_asked_is_answered_by_another_one(self) -> None:
        setting = replace(reference(instances=2), changes=[Change(2.0, "lose", "instance-0", noticed=1.0)])
        simulation = attempt(setting, WorkloadConfig(rate=20), 4.0).simulation
        assert sorted(simulation.answers.numbers) == list(range(simulation.offered))
        assert simulation.cluster.router.members == ("instance-1",)

    def test_when_nobody_is_left_requests_fail_rather_than_wait_for_ever(self) -> None:
        setting = replace(reference(), changes=[Change(2.0, "lose", "instance-0", noticed=0.1)])
        simulation = attempt(setting, WorkloadConfig(rate=20), 4.0).simulation
        answered = len(simulation.answers.numbers)
        assert answered + simulation.answers.failed == simulation.offered
        assert simulation.answers.failed > 20


class TestSearch:
    def test_the_load_found_is_borne_and_a_little_more_is_not(self) -> None:
        setting, workload, timing = reference("full"), WorkloadConfig(prefix_tokens=2048), Timing(1.0, 15.0)
        load = most_load(setting, workload, OBJECTIVE, timing, 0, precision=0.05)
        assert 30 < load < 70
        for rate, borne in ((load, True), (1.06 * load, False)):
            trial = try_setting(setting, replace(workload, rate=rate), OBJECTIVE, timing, 0)
            assert trial.keeps(OBJECTIVE) is borne

    def test_giving_up_changes_no_verdict(self) -> None:
        for rate in (30.0, 60.0, 120.0):
            workload = WorkloadConfig(rate=rate)
            verdicts = [
                try_setting(reference("full"), workload, OBJECTIVE, Timing(1.0, 6.0), 0, give_up=give_up).keeps(
                    OBJECTIVE
                )
                for give_up in (False, True)
            ]
            assert verdicts[0] == verdicts[1]

    def test_where_a_single_request_is_too_slow_no_load_is_borne(self) -> None:
        workload = WorkloadConfig(prefix_tokens=4096)
        assert most_load(reference("full"), workload, OBJECTIVE, Timing(1.0, 8.0), 0, precision=0.1) == 0.0

    def test_the_relay_ranks_longer_histories_in_time(self) -> None:
        workload, timing = WorkloadConfig(rate=15, reuse=0.5), Timing(1.0, 8.0)
        lengths = [
            longest_history(reference(arm), workload, OBJECTIVE, timing, 0, step=256, most=6144)
            for arm in ("full", "relay")
        ]
        assert lengths[0] >= 1024
        assert lengths[1] >= 1.5 * lengths[0]


def drawn(workload: WorkloadConfig, seconds: float) -> Workload:
    return draw_workload(workload, instances=1, seconds=seconds, history=60.0, seed=0)
