"""The supervisor's rules, each as a sequence of events and the expected actions."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import FrozenInstanceError, replace

import pytest

from wagi.errors import WagiError
from wagi.server import fleet as package
from wagi.server.fleet.actions import (
    Action,
    Announce,
    CancelLoad,
    CloseListeners,
    Load,
    Log,
    ReportLoad,
    Retire,
    StartAdmin,
    StartWorker,
    Terminate,
    UseFallback,
)
from wagi.server.fleet.events import (
    AdminExited,
    Event,
    FallbackReady,
    LoadFailed,
    LoadSucceeded,
    ReloadRequested,
    StartPostponed,
    StopRequested,
    Tick,
    WorkerExited,
    WorkerReady,
)
from wagi.server.fleet.rules import (
    ADMIN_RESTART_DELAY_S,
    HEALTHY_AFTER_S,
    RELOAD_RETRY_MAX_S,
    RESTART_DELAY_MAX_S,
    START_RETRY_S,
    decide,
)
from wagi.server.fleet.state import Condition, Fleet, Phase

pytestmark = pytest.mark.fast
KILLED = -9
ERROR = WagiError("modules.toml:1: no such file")
RELOADED = Log(logging.INFO, "reloaded")


class Run:
    """A fleet and the actions its last event led to."""

    def __init__(self, waits_for_change: bool = False) -> None:
        self.fleet = Fleet(waits_for_change)
        self.now = 100.0
        self.actions: list[Action] = []

    def send(self, *events: Event) -> list[Action]:
        self.actions = []
        for event in events:
            self.fleet, actions = decide(self.fleet, event, self.now)
            self.actions += actions
        return self.actions

    def phase(self) -> Phase:
        return self.fleet.phase

    def condition(self) -> Condition:
        return self.fleet.condition

    def wait(self, seconds: float) -> list[Action]:
        self.now += seconds
        return self.send(Tick())

    def started(self) -> list[int]:
        """The workers that the last actions start."""
        return [action.worker for action in self.actions if isinstance(action, StartWorker)]

    def logged(self) -> list[str]:
        return [action.message for action in self.actions if isinstance(action, Log)]


def serving(workers: int = 1) -> Run:
    """A fleet that serves generation 1 with the workers 1, 2, …"""
    run = Run()
    run.send(LoadSucceeded(1, workers), *ready(range(1, workers + 1)))
    assert run.phase() is Phase.SERVING
    return run


def ready(workers: Iterable[int]) -> list[Event]:
    return [WorkerReady(worker) for worker in workers]


def died(worker: int, status: int = KILLED) -> WorkerExited:
    return WorkerExited(worker, 1000 + worker, status)


# Start


def test_a_new_fleet_is_loading() -> None:
    fleet = Fleet()
    assert fleet.phase is Phase.STARTING
    assert fleet.is_loading
    assert not fleet.is_finished


def test_the_first_plan_starts_all_workers_at_once() -> None:
    run = Run()
    starts = [StartWorker(1, 0, 1), StartWorker(2, 1, 1), StartWorker(3, 2, 1)]
    assert run.send(LoadSucceeded(1, 3)) == [ReportLoad(""), *starts]
    assert run.phase() is Phase.STARTING
    assert not run.fleet.is_loading


def test_the_service_is_announced_once_when_all_workers_are_ready() -> None:
    run = Run()
    run.send(LoadSucceeded(1, 2))
    assert run.send(WorkerReady(2)) == []
    assert run.send(WorkerReady(1)) == [Announce()]
    assert run.phase() is Phase.SERVING
    assert run.send(WorkerReady(1)) == []


def test_warnings_of_the_first_plan_are_not_logged_twice() -> None:
    run = Run()
    run.send(LoadSucceeded(1, 1, ("unused key",)))
    assert run.logged() == []


def test_an_invalid_first_plan_is_fatal() -> None:
    run = Run()
    assert run.send(LoadFailed(ERROR)) == [ReportLoad(str(ERROR)), CloseListeners()]
    assert run.fleet.failure is ERROR
    assert run.fleet.is_finished


def test_with_watch_an_invalid_first_plan_waits_for_a_change() -> None:
    run = Run(waits_for_change=True)
    message = f"cannot start, waiting for a change:\n    {ERROR}"
    failed = [ReportLoad(str(ERROR)), Log(logging.ERROR, message)]
    assert run.send(LoadFailed(ERROR)) == [*failed, UseFallback()]
    assert run.phase() is Phase.STARTING
    assert run.send(ReloadRequested())[-1] == Load()
    assert StartWorker(1, 0, 1) in run.send(LoadSucceeded(1, 1))


def test_a_fallback_is_served_until_a_plan_is_loaded() -> None:
    """It is not announced, and the workers of the first plan replace all of its workers at once."""
    run = Run(waits_for_change=True)
    run.send(LoadFailed(ERROR))
    starts = [StartWorker(1, 0, 1), StartWorker(2, 1, 1)]
    assert run.send(FallbackReady(1, 2)) == starts
    assert run.send(*ready([1, 2])) == []
    assert run.phase() is Phase.STARTING
    run.send(ReloadRequested(), LoadFailed(ERROR))
    assert run.logged()[-1].startswith("cannot start, waiting for a change")
    assert UseFallback() not in run.actions
    run.send(ReloadRequested())
    successors = [StartWorker(3, 0, 2), StartWorker(4, 1, 2)]
    assert run.send(LoadSucceeded(2, 2)) == [ReportLoad(""), *successors]
    assert run.send(WorkerReady(3)) == [Retire(1)]
    assert run.send(WorkerReady(4)) == [Retire(2), Announce()]
    assert run.phase() is Phase.SERVING


def test_a_worker_of_the_fallback_that_is_ready_late_retires_no_successor() -> None:
    run = Run(waits_for_change=True)
    run.send(LoadFailed(ERROR), FallbackReady(1, 1), ReloadRequested(), LoadSucceeded(2, 1))
    assert run.started() == [1, 2]
    assert run.send(WorkerReady(1)) == []
    assert run.send(WorkerReady(2)) == [Retire(1), Announce()]


def test_a_worker_of_the_fallback_is_restarted() -> None:
    run = Run(waits_for_change=True)
    run.send(LoadFailed(ERROR), FallbackReady(1, 1), WorkerReady(1), died(1), Tick())
    assert run.started() == [1, 2]
    assert run.send(StopRequested()) == [CloseListeners(), Terminate(2)]


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (3, 3),
        (KILLED, "a worker was killed by SIGKILL"),
        (0, "a worker exited with status 0"),
    ],
)
def test_a_worker_exit_during_the_first_start_is_fatal(status: int, failure: int | str) -> None:
    run = Run()
    run.send(LoadSucceeded(1, 2), WorkerReady(2))
    assert run.send(died(1, status)) == [CloseListeners(), Terminate(2)]
    found = run.fleet.failure
    assert (str(found) if isinstance(found, WagiError) else found) == failure
    assert not run.fleet.is_finished
    run.send(died(2, 0))
    assert run.fleet.is_finished


def test_the_first_failure_is_reported() -> None:
    run = Run()
    run.send(LoadSucceeded(1, 2), died(1, 3), died(2, 4))
    assert run.fleet.failure == 3


def test_a_ready_worker_that_dies_during_the_start_is_restarted() -> None:
    """The service is not announced until its replacement is ready."""
    run = Run()
    run.send(LoadSucceeded(1, 2), WorkerReady(1), died(1))
    assert run.fleet.failure is None
    assert Announce() not in run.send(WorkerReady(2))
    run.send(Tick())
    assert run.started() == [3]
    assert run.send(WorkerReady(3)) == [Announce()]


def test_a_reload_during_the_start_starts_the_newer_plan_everywhere() -> None:
    run = Run()
    run.send(LoadSucceeded(1, 2), ReloadRequested(), LoadSucceeded(2, 2))
    assert run.started() == [1, 2, 3, 4]
    assert run.send(WorkerReady(3)) == [Retire(1)]
    assert run.send(died(1, 0)) == []
    assert run.send(WorkerReady(4)) == [Retire(2), Announce()]
    assert run.send(died(2, 0)) == []


# Deaths


def test_a_worker_that_dies_is_restarted_immediately() -> None:
    run = serving(2)
    run.send(died(2), Tick())
    message = "worker 1002 was killed by SIGKILL, its requests failed; starting another"
    assert run.actions == [Log(logging.ERROR, message), StartWorker(3, 1, 1)]
    assert run.phase() is Phase.SERVING


def test_a_death_before_readiness_is_logged_as_such() -> None:
    run = serving()
    run.send(died(1), Tick(), died(2, 1))
    expected = "worker 1002 exited with status 1 before it was ready; starting another in 0.5 s"
    assert run.logged()[-1] == expected


def test_restarts_back_off() -> None:
    run = serving()
    delays = []
    for worker in range(1, 10):
        run.send(died(worker))
        assert run.fleet.next_due is not None
        delays.append(run.fleet.next_due - run.now)
        run.wait(delays[-1])
        assert run.started() == [worker + 1]
        run.send(WorkerReady(worker + 1))
    assert delays == [0, 0.5, 1, 2, 4, 8, RESTART_DELAY_MAX_S, 10, 10]


def test_no_worker_is_started_before_its_delay_has_passed() -> None:
    run = serving()
    run.send(died(1), Tick(), WorkerReady(2), died(2))
    assert run.wait(0.49) == []
    run.wait(0.01)
    assert run.started() == [3]
    assert run.fleet.next_due is None


def test_a_healthy_run_resets_the_back_off() -> None:
    run = serving()
    run.send(died(1), Tick(), WorkerReady(2))
    run.wait(HEALTHY_AFTER_S + 0.1)
    run.send(died(2), Tick())
    assert run.started() == [3]
    run.send(WorkerReady(3), died(3))
    assert run.fleet.next_due == run.now + 0.5


def test_the_back_off_does_not_overflow() -> None:
    """A worker that dies every 10 s for hours has died more often than a float has exponents."""
    run = serving()
    run.fleet = replace(run.fleet, listeners=(replace(run.fleet.listeners[0], deaths=5000),))
    run.send(died(1))
    assert run.fleet.next_due == run.now + RESTART_DELAY_MAX_S


def test_each_listener_has_its_own_back_off() -> None:
    run = serving(2)
    run.send(died(1), Tick(), died(3), died(2), Tick())
    assert run.started() == [3, 4]


def test_next_due_is_the_earliest_of_all_listeners() -> None:
    run = serving(2)
    run.send(died(1), Tick(), died(3), died(2))
    assert run.fleet.next_due == run.now


def test_an_unknown_worker_is_ignored() -> None:
    run = serving()
    before = run.fleet
    assert run.send(WorkerReady(7), died(7)) == []
    assert run.fleet == before


# Reload


def test_a_reload_loads_before_it_replaces_workers() -> None:
    run = serving()
    assert run.send(ReloadRequested()) == [Log(logging.INFO, "reloading"), Load()]
    assert run.fleet.is_loading
    assert run.phase() is Phase.SERVING


def test_a_reload_replaces_one_worker_after_the_other() -> None:
    run = serving(2)
    run.send(ReloadRequested())
    assert run.send(LoadSucceeded(2, 2)) == [ReportLoad(""), StartWorker(3, 0, 2)]
    assert run.phase() is Phase.ROLLING
    assert run.send(WorkerReady(3)) == [Retire(1), StartWorker(4, 1, 2)]
    assert run.send(WorkerReady(4)) == [Retire(2), RELOADED]
    assert run.phase() is Phase.SERVING


def test_a_retired_worker_is_not_restarted() -> None:
    run = serving()
    run.send(ReloadRequested(), LoadSucceeded(2, 1), WorkerReady(2))
    assert run.send(died(1, 0), Tick()) == []
    assert run.fleet.generations == {2}


def test_a_generation_is_in_use_while_a_worker_runs_it() -> None:
    run = serving()
    run.send(ReloadRequested(), LoadSucceeded(2, 1), WorkerReady(2))
    assert run.fleet.generations == {1, 2}
    run.send(ReloadRequested(), LoadSucceeded(3, 1), WorkerReady(3), died(2, 0))
    assert run.fleet.generations == {1, 3}


def test_the_warnings_of_a_reload_are_logged() -> None:
    run = serving()
    run.send(ReloadRequested())
    run.send(LoadSucceeded(2, 1, ("one", "two")))
    assert run.actions[1:3] == [Log(logging.WARNING, "one"), Log(logging.WARNING, "two")]


@pytest.mark.parametrize("waits_for_change", [True, False])
def test_a_failed_reload_is_counted_and_changes_nothing_else(waits_for_change: bool) -> None:
    run = Run(waits_for_change)
    run.send(LoadSucceeded(1, 1), WorkerReady(1))
    before = run.fleet
    run.send(ReloadRequested())
    message = f"reload failed, the previous configuration stays in effect:\n    {ERROR}"
    assert run.send(LoadFailed(ERROR)) == [ReportLoad(str(ERROR)), Log(logging.ERROR, message)]
    assert run.fleet == replace(before, failed_reloads=1)


def retrying() -> Run:
    """A fleet that serves, and retries failed reloads."""
    run = Run()
    run.fleet = Fleet(retries_reloads=True)
    run.send(LoadSucceeded(1, 1), WorkerReady(1))
    return run


def test_failed_reloads_are_counted() -> None:
    run = serving()
    for expected in ("reload failed,", "reload failed 2 times in a row,", "reload failed 3 times"):
        run.send(ReloadRequested(), LoadFailed(ERROR))
        assert run.logged()[-1].startswith(expected)
    assert run.fleet.next_due is None
    run.send(ReloadRequested(), LoadSucceeded(2, 1))
    assert run.logged()[-1] == "the reload succeeded after it had failed 3 times"
    run.send(ReloadRequested(), LoadFailed(ERROR))
    assert run.logged()[-1].startswith("reload failed, ")


def test_failed_reloads_are_retried_with_a_growing_delay() -> None:
    run = retrying()
    run.send(ReloadRequested(), LoadFailed(ERROR))
    delays = []
    for _ in range(8):
        assert run.fleet.next_due is not None
        delays.append(run.fleet.next_due - run.now)
        assert f"; retrying in {delays[-1]:g} s:\n" in run.logged()[-1]
        assert run.wait(delays[-1] - 0.1) == []
        assert run.wait(0.1) == [Load()]
        assert run.wait(1000) == []
        run.send(LoadFailed(ERROR))
    assert delays == [1, 2, 4, 8, 16, 32, RELOAD_RETRY_MAX_S, 60]
    run.wait(60)
    run.send(LoadSucceeded(2, 1))
    assert run.fleet.next_due is None


def test_a_requested_reload_replaces_the_planned_retry() -> None:
    run = retrying()
    run.send(ReloadRequested(), LoadFailed(ERROR))
    assert Load() in run.send(ReloadRequested())
    run.send(LoadSucceeded(2, 1), WorkerReady(2))
    assert run.wait(1000) == []


def test_a_change_during_a_failing_load_is_not_delayed() -> None:
    run = retrying()
    assert Load() in run.send(ReloadRequested(), ReloadRequested(), LoadFailed(ERROR))
    assert run.fleet.next_due is None


def test_a_failed_first_load_is_not_retried() -> None:
    run = Run()
    run.fleet = Fleet(retries_reloads=True)
    run.send(LoadFailed(ERROR))
    assert run.fleet.failure is ERROR
    assert run.fleet.next_due is None


def test_the_condition_for_service_managers() -> None:
    run = Run()
    assert run.condition() is Condition.STARTING
    run.send(LoadSucceeded(1, 2), WorkerReady(1))
    assert run.condition() is Condition.STARTING
    run.send(WorkerReady(2))
    assert run.condition() is Condition.READY
    run.send(died(1))
    assert run.condition() is Condition.READY
    run.send(Tick(), WorkerReady(3), ReloadRequested())
    assert run.condition() is Condition.RELOADING
    run.send(LoadFailed(ERROR))
    assert run.condition() is Condition.READY
    run.send(ReloadRequested(), LoadSucceeded(2, 2))
    assert run.condition() is Condition.RELOADING
    run.send(WorkerReady(4))
    assert run.condition() is Condition.RELOADING
    run.send(WorkerReady(5))
    assert run.condition() is Condition.READY
    run.send(StopRequested())
    assert run.condition() is Condition.STOPPING


def test_a_reload_request_during_a_load_loads_again_afterwards() -> None:
    run = serving()
    run.send(ReloadRequested())
    assert run.send(ReloadRequested(), ReloadRequested()) == 2 * [Log(logging.INFO, "reloading")]
    assert run.send(LoadSucceeded(2, 1)) == [ReportLoad(""), StartWorker(2, 0, 2), Load()]
    assert Load() not in run.send(LoadSucceeded(3, 1))


def test_a_reload_request_during_a_failing_load_loads_again_afterwards() -> None:
    run = serving()
    run.send(ReloadRequested(), ReloadRequested())
    assert run.send(LoadFailed(ERROR))[-1] == Load()


def test_a_newer_plan_takes_over_in_the_middle_of_a_reload() -> None:
    """The successor that is starting becomes ready first; "reloaded" is logged once."""
    run = serving(2)
    run.send(ReloadRequested(), LoadSucceeded(2, 2), ReloadRequested())
    assert run.send(LoadSucceeded(3, 2)) == [ReportLoad("")]
    assert run.send(WorkerReady(3)) == [Retire(1), StartWorker(4, 0, 3)]
    assert run.send(WorkerReady(4)) == [Retire(3), StartWorker(5, 1, 3)]
    assert run.send(WorkerReady(5)) == [Retire(2), RELOADED]


def test_a_worker_is_retired_only_once() -> None:
    run = serving()
    run.send(ReloadRequested(), LoadSucceeded(2, 1), WorkerReady(2))
    run.send(ReloadRequested(), LoadSucceeded(3, 1))
    assert run.send(WorkerReady(3)) == [Retire(2), RELOADED]


def test_a_successor_that_dies_is_restarted_and_the_reload_continues() -> None:
    run = serving(2)
    run.send(ReloadRequested(), LoadSucceeded(2, 2))
    run.send(died(3), Tick())
    assert run.started() == [4]
    assert run.send(WorkerReady(4)) == [Retire(1), StartWorker(5, 1, 2)]


def test_a_predecessor_with_a_starting_successor_is_not_restarted() -> None:
    run = serving()
    run.send(ReloadRequested(), LoadSucceeded(2, 1))
    run.send(died(1), Tick())
    assert run.started() == []
    assert run.send(WorkerReady(2)) == [RELOADED]


def test_a_worker_that_dies_during_a_reload_is_restarted_with_the_new_plan() -> None:
    run = serving(2)
    run.send(ReloadRequested(), LoadSucceeded(2, 2))
    assert StartWorker(4, 1, 2) in run.send(died(2), Tick())


def test_a_listener_whose_restart_is_delayed_is_not_started_early_by_a_reload() -> None:
    run = serving()
    run.send(died(1), Tick(), died(2), ReloadRequested())
    run.send(LoadSucceeded(2, 1))
    assert run.started() == []
    assert run.wait(0.5) == [StartWorker(3, 0, 2)]


# The process of the admin listener


def test_the_admin_process_is_started_again_in_every_phase() -> None:
    loading, stopping, delayed = Run(), serving(), serving()
    stopping.send(StopRequested())
    delayed.fleet = replace(delayed.fleet, shutdown_delay=60.0)
    delayed.send(StopRequested())
    for run in (loading, serving(), stopping, delayed):
        run.send(AdminExited(KILLED))
        message = "the process of --admin-listen was killed by SIGKILL; starting another in 1 s"
        assert run.actions == [Log(logging.ERROR, message)]
        assert run.fleet.next_due == run.now + ADMIN_RESTART_DELAY_S
        assert run.wait(ADMIN_RESTART_DELAY_S - 0.01) == []
        assert run.wait(0.01) == [StartAdmin()]
        assert run.wait(10) == []


# Starts that are postponed for lack of room


def test_a_start_without_room_is_retried() -> None:
    run = serving()
    run.send(ReloadRequested(), LoadSucceeded(2, 1))
    run.send(StartPostponed(2))
    message = "postponing a new worker until a retired one has answered its last requests"
    assert run.actions == [Log(logging.WARNING, message)]
    assert [worker.number for worker in run.fleet.workers] == [1]
    assert run.wait(START_RETRY_S - 0.01) == []
    assert run.wait(0.01) == [StartWorker(3, 0, 2)]
    assert run.send(WorkerReady(3)) == [Retire(1), RELOADED]


def test_a_start_without_room_does_not_count_as_a_death() -> None:
    run = serving()
    run.send(ReloadRequested(), LoadSucceeded(2, 1), StartPostponed(2))
    assert run.fleet.listeners[0].deaths == 0


# Stop


def test_a_stop_closes_the_listeners_before_the_workers_are_terminated() -> None:
    run = serving(2)
    assert run.send(StopRequested()) == [CloseListeners(), Terminate(1), Terminate(2)]
    assert run.phase() is Phase.STOPPING
    assert not run.fleet.is_finished
    assert run.send(died(1, 0), died(2, 0)) == []
    assert run.fleet.is_finished
    assert run.fleet.failure is None


def test_a_second_stop_terminates_the_remaining_workers_again() -> None:
    run = serving(2)
    run.send(StopRequested(), died(1, 0))
    assert Terminate(2) in run.send(StopRequested())
    assert Terminate(1) not in run.actions


def test_a_stop_cancels_the_load() -> None:
    run = serving()
    run.send(ReloadRequested())
    assert CancelLoad() in run.send(StopRequested())
    assert not run.fleet.is_loading


def test_a_stop_before_the_first_plan_ends_at_once() -> None:
    run = Run()
    assert run.send(StopRequested()) == [CloseListeners(), CancelLoad()]
    assert run.fleet.is_finished


def test_a_stop_during_a_reload_terminates_old_and_new_workers() -> None:
    run = serving()
    run.send(ReloadRequested(), LoadSucceeded(2, 1))
    assert run.send(StopRequested()) == [CloseListeners(), Terminate(1), Terminate(2)]


def test_nothing_is_started_after_a_stop() -> None:
    run = serving(2)
    run.send(died(1), StopRequested())
    assert run.fleet.next_due is None
    events: list[Event] = [
        Tick(),
        WorkerReady(2),
        ReloadRequested(),
        LoadSucceeded(2, 2),
        LoadFailed(ERROR),
    ]
    assert run.send(*events) == []
    assert run.send(died(2)) == []
    assert run.fleet.is_finished


def test_a_postponed_start_is_forgotten_after_a_stop() -> None:
    run = Run()
    run.send(LoadSucceeded(1, 1), StopRequested(), StartPostponed(1))
    assert run.fleet.is_finished


def test_a_delayed_stop_keeps_accepting_until_it_is_due() -> None:
    run = serving()
    run.fleet = replace(run.fleet, shutdown_delay=5.0)
    assert run.send(StopRequested()) == [Log(logging.INFO, "shutting down in 5 s")]
    assert run.fleet.condition is Condition.STOPPING
    assert run.fleet.next_due == run.now + 5
    assert run.wait(4) == []
    assert run.send(ReloadRequested()) == []
    run.send(died(1))
    assert run.wait(0) == [StartWorker(2, 0, 1)]
    assert run.wait(1) == [CloseListeners(), Terminate(2)]
    assert run.phase() is Phase.STOPPING


def test_a_second_request_ends_the_delay() -> None:
    run = serving()
    run.fleet = replace(run.fleet, shutdown_delay=5.0)
    run.send(StopRequested())
    assert run.send(StopRequested()) == [CloseListeners(), Terminate(1)]


def test_a_stop_during_the_start_is_not_delayed() -> None:
    run = Run()
    run.fleet = replace(run.fleet, shutdown_delay=5.0)
    assert run.send(StopRequested()) == [CloseListeners(), CancelLoad()]


def test_ready_workers_are_counted_by_listener() -> None:
    run = serving(workers=2)
    assert run.fleet.ready_workers == 2
    run.send(ReloadRequested(), LoadSucceeded(2, 2))
    assert run.fleet.ready_workers == 2  # each listener keeps a worker during a reload
    run.send(died(2))
    assert run.fleet.ready_workers == 1


# Immutability and documentation


def test_the_state_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        Fleet().phase = Phase.SERVING  # type: ignore[misc]


def test_the_table_names_every_event_and_phase() -> None:
    """The package's docstring contains the complete state table."""
    table = str(package.__doc__)
    assert [kind.__name__ for kind in Event.__args__ if kind.__name__ not in table] == []
    assert [phase.name for phase in Phase if phase.name not in table] == []
