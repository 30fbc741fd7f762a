"""A study's budget, whoever works on it and whatever becomes of them."""

import signal
import subprocess
import sys
from collections import Counter
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from experiments.harness.execution.signals import Stopped
from sweeps.execution import worker
from sweeps.execution.storage import open_storage
from sweeps.execution.study import (
    FAILURE,
    SLOT,
    attempts,
    load_study,
    retry,
    retry_abandoned,
    retry_failed,
    states,
)
from sweeps.execution.trial import Place
from sweeps.execution.worker import work
from tests.integration.sweeps.tiny_sweep import (
    GRID,
    RANDOM,
    TPE,
    Crew,
    make,
    make_at_once,
    quick,
    study_at,
    sweep_of,
)
from tests.tiny import PATIENCE, until

RATE, STEPS, BATCH = "score.train.learning_rate", "score.train.steps", "score.train.batch_size"
PRUNED = {
    "pruner": {"_target_": "optuna.pruners.MedianPruner"},
    "report": {"stage": "score", "metric": "val/loss"},
}
COMPLETE, FAIL, RUNNING = TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING


@pytest.fixture
def play(monkeypatch):
    """Let trials do something else than run a pipeline, in this process."""

    def played(run_trial):
        monkeypatch.setattr(worker, "run_trial", run_trial)

    monkeypatch.setattr(worker, "PAUSE", 0.05)
    played(lambda sweep, label, seed, params, *_: quick(sweep, int(label), params))
    return played


@pytest.fixture
def crew(tmp_path):
    crews = []

    def of(*arguments, **more):
        crews.append(Crew(*arguments, home=tmp_path, **more))
        return crews[-1]

    yield of
    for member in (m for c in crews for m in c.members if m.is_alive()):
        member.kill()
        member.join()


def place(tmp_path):
    return Place(tmp_path, 1)


# The budget


def test_four_workers_share_a_budget_exactly(storage, crew):
    """In SQLite and in PostgreSQL: none too many, none twice, and each does its part."""
    sweep = sweep_of(budget=40)
    study = make(sweep, storage)
    workers = crew(sweep, storage)
    workers.start(4)
    assert workers.finish() == [0, 0, 0, 0]
    assert sorted(trial for _, trial in workers.ran) == list(range(40))
    assert len({member for member, _ in workers.ran}) > 1
    done = attempts(study).values()
    assert [t.state for t in done] == [COMPLETE] * 40
    assert len({t.params[RATE] for t in done}) == 40
    for trial in done:
        assert trial.values == [trial.params[RATE]]
        assert trial.user_attrs["folder"] == f"{trial.number:04d}"


def test_a_grid_s_points_are_tried_once_each(storage, crew):
    space = {STEPS: {"choices": list(range(1, 7))}, BATCH: {"choices": [1, 2, 3]}}
    sweep = sweep_of(space=space, sampler=GRID, budget=None)
    study = make(sweep, storage)
    assert study.user_attrs["budget"] == 18
    workers = crew(sweep, storage)
    workers.start(4)
    assert workers.finish() == [0, 0, 0, 0]
    done = [t for t in study.trials if t.state == COMPLETE]
    points = Counter((t.params[STEPS], t.params[BATCH]) for t in done)
    assert points == {(steps, batch): 1 for steps in range(1, 7) for batch in (1, 2, 3)}


def test_a_study_that_many_create_and_enlarge_at_once_has_its_budget(storage, crew):
    """Enlarging may queue a slot twice; the second trial is dropped, and counts nowhere."""
    assert make_at_once(sweep_of(budget=6), storage, 4) == [0, 0, 0, 0]
    assert len(study_at(storage).trials) == 6
    sweep = sweep_of(budget=10)
    assert make_at_once(sweep, storage, 4) == [0, 0, 0, 0]
    study = study_at(storage)
    assert (states(study)["waiting"], study.user_attrs["budget"]) == (10, 10)
    study.enqueue_trial({}, user_attrs={SLOT: 3})  # at least once, whatever the race gave
    workers = crew(sweep, storage)
    workers.start(3)
    assert workers.finish() == [0, 0, 0]
    assert sorted(trial for _, trial in workers.ran) == list(range(10))
    assert states(study) == {"complete": 10, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    counted = attempts(study)
    extra = [t.state for t in study.trials if counted.get(t.user_attrs.get(SLOT)) != t]
    assert extra == [FAIL] * (len(study.trials) - 10)
    assert extra


def test_a_study_grows_with_its_budget_and_never_shrinks(sqlite, tmp_path, play):
    for budget, expected in ((2, 2), (5, 5), (3, 5)):
        sweep = sweep_of(budget=budget)
        study = make(sweep, sqlite)
        assert study.user_attrs["budget"] == expected
        work(sweep, sqlite, place(tmp_path))
        assert states(study) == {
            "complete": expected, "pruned": 0, "failed": 0, "running": 0, "waiting": 0,
        }  # fmt: skip


def test_a_grown_grid_goes_on_with_the_points_that_are_left(sqlite, tmp_path, play):
    """Also after a retry, whose number is not one of the budget's."""
    space = {STEPS: {"choices": [1, 2, 3, 4, 5]}}
    for budget in (2, 5):
        sweep = sweep_of(space=space, sampler=GRID, budget=budget)
        study = make(sweep, sqlite)
        if budget == 2:
            play(_stopped_once())
            with pytest.raises(SystemExit):
                work(sweep, sqlite, place(tmp_path))
            assert len(study.trials) == 3
        work(sweep, sqlite, place(tmp_path))
    assert sorted(t.params[STEPS] for t in study.trials if t.state == COMPLETE) == [1, 2, 3, 4, 5]


def test_a_finished_study_hands_out_nothing(sqlite, tmp_path, play):
    sweep = sweep_of(budget=2)
    study = make(sweep, sqlite)
    work(sweep, sqlite, place(tmp_path))
    play(lambda *_: pytest.fail("nothing was left to do"))
    work(sweep, sqlite, place(tmp_path))
    assert len(study.trials) == 2
    study.optimize(worker.Objective(sweep, place(tmp_path)), n_trials=1, catch=(Exception,))
    assert [t.state for t in study.trials] == [COMPLETE, COMPLETE, FAIL]  # Optuna created one
    assert states(study) == {"complete": 2, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}


def test_a_study_records_its_definition(sqlite):
    sweep = sweep_of(budget=2, constraints={"gen/frac_finite": {"at_least": 0.5}})
    attributes = make(sweep, sqlite).user_attrs
    assert attributes["budget"] == 2
    assert attributes["definition"] == sweep.definition()
    assert attributes["definition"]["question"] == "Does it?"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"space": {RATE: {"low": 0.001, "high": 0.1, "log": True}}}, "space"),
        ({"stages": {"score": [], "sample": []}}, "stages"),
        ({"models": {"forcefield": "x"}}, "models"),
        ({"objectives": {"score/loss": "maximize"}}, "objectives"),
        ({"objectives": {"seconds/all": "minimize"}}, "objectives"),
        ({"constraints": {"gen/frac_finite": {"at_least": 0.5}}}, "constraints"),
        ({"seed": 1}, "seed"),
    ],
)
def test_what_would_not_compare_is_refused_under_one_name(change, key, sqlite):
    make(sweep_of(budget=2), sqlite)
    with pytest.raises(ValueError, match=rf"{key}.*another name \(name=") as error:
        make(sweep_of(budget=9, **change), sqlite)
    others = {"space", "stages", "models", "objectives", "constraints", "seed"} - {key}
    assert not [other for other in others if f" {other}:" in str(error.value)]
    study = study_at(sqlite)
    assert (len(study.trials), study.user_attrs["budget"]) == (2, 2)
    make(sweep_of(name="other", **change), sqlite)


def test_what_compares_may_change(sqlite):
    make(sweep_of(budget=2), sqlite)
    study = make(sweep_of(budget=2, question="Why?", sampler=TPE, retries=1, **PRUNED), sqlite)
    assert study.user_attrs["definition"]["question"] == "Why?"


# Workers that end


@pytest.mark.parametrize("when", ["in its trial", "before its first heartbeat"])
def test_what_a_killed_worker_leaves_is_done_by_another(when, storage, crew):
    """The same trial of the budget, with its point and what it had reported, and no other."""
    sweep = sweep_of(budget=3, **PRUNED)
    study = make(sweep, storage)
    workers = crew(sweep, storage, heartbeat=1)
    if when == "in its trial":
        workers.start(play="hang")
        workers.wait_until_ran(1)
        until(lambda: study.trials[0].intermediate_values)
        workers.send(0, signal.SIGKILL)
        codes = [-signal.SIGKILL, 0]
    else:
        code = f"""
import os, signal
from tests.integration.sweeps.tiny_sweep import study_at
study_at({storage!r}).ask()
os.kill(os.getpid(), signal.SIGKILL)"""
        ended = subprocess.run([sys.executable, "-c", code], check=False).returncode
        assert ended == -signal.SIGKILL
        codes = [0]
    left = study.trials[0]
    assert left.state == RUNNING
    workers.start()
    assert workers.finish() == codes
    assert states(study)["complete"] == 3
    assert [t.state for t in study.trials] == [FAIL, COMPLETE, COMPLETE, COMPLETE]
    again = study.trials[3]
    assert again.user_attrs[SLOT] == 0
    assert again.user_attrs["folder"] == "0000"
    if when == "in its trial":
        assert again.params == left.params
        assert again.intermediate_values == left.intermediate_values == {1: 0.5}
        assert Counter(trial for _, trial in workers.ran) == {0: 2, 1: 1, 2: 1}


@pytest.mark.parametrize("then", ["nap", "nap and fail"])
def test_a_worker_that_sleeps_too_long_is_overtaken_and_changes_nothing(then, sqlite, crew):
    sweep = sweep_of(budget=2)
    study = make(sweep, sqlite)
    workers = crew(sweep, sqlite, heartbeat=1)
    workers.start(play=then)
    workers.wait_until_ran(1)
    workers.send(0, signal.SIGSTOP)
    workers.start()
    workers.members[1].join(PATIENCE)
    done = study.trials
    assert states(study)["complete"] == 2
    workers.send(0, signal.SIGCONT)
    assert workers.finish() == [0, 0]
    assert study.trials == done


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_terminated_worker_gives_its_trial_back_at_once(kind, sqlite, tmp_path, play):
    sweep = sweep_of(budget=2)
    study = make(sweep, sqlite)
    play(_stopped_once(kind))
    with pytest.raises(kind):
        work(sweep, sqlite, place(tmp_path))
    assert [t.state.name for t in study.trials] == ["FAIL", "WAITING", "WAITING"]
    assert study.trials[2].user_attrs[SLOT] == 0
    work(sweep, sqlite, place(tmp_path))
    assert states(study)["complete"] == 2
    assert study.trials[2].params == study.trials[0].params


def _stopped_once(kind=SystemExit):
    """A trial, but the first one is stopped."""
    reported = []

    def run_trial(sweep, label, seed, params, *_):
        if not reported:
            reported.append(label)
            raise kind
        return quick(sweep, int(label), params)

    return run_trial


def test_retries_have_an_end(sqlite, tmp_path, play):
    """A trial that takes its worker's life is not tried for ever."""
    sweep = sweep_of(budget=1, retries=2)
    study = make(sweep, sqlite)
    for n in range(3):
        assert len(study.trials) == n + 1
        kill_trial(study)
        retry_abandoned(study, sweep.retries)
    assert [t.state for t in study.trials] == [FAIL] * 3
    assert [t.user_attrs[SLOT] for t in study.trials] == [0] * 3
    assert states(study)["failed"] == 1


def test_an_interruption_is_no_death(sqlite, tmp_path, play):
    """A trial may be given back as often as its machine's owner likes."""
    sweep = sweep_of(budget=1, retries=1)
    study = make(sweep, sqlite)
    for _ in range(3):
        play(_stopped_once())
        with pytest.raises(SystemExit):
            work(sweep, sqlite, place(tmp_path))
    assert states(study)["waiting"] == 1
    for left in ("waiting", "failed"):  # one death is forgiven
        kill_trial(study)
        retry_abandoned(study, sweep.retries)
        assert states(study)[left] == 1


def test_networks_that_were_trained_anew_are_other_networks(sqlite, tmp_path):
    model = tmp_path / "score/model.pt"
    model.parent.mkdir()
    model.write_bytes(b"trained")
    sweep = sweep_of(models={"score": str(model.parent)})
    make(sweep, sqlite)
    assert make(sweep, sqlite).user_attrs["networks"].keys() == {"score"}
    model.write_bytes(b"trained anew")
    with pytest.raises(ValueError, match="study tiny began with another score network"):
        make(sweep, sqlite)


def test_a_retry_runs_once_however_many_queue_it(sqlite, tmp_path, play):
    sweep, ran = sweep_of(budget=2), []
    play(lambda _, label, *rest: ran.append(int(label)) or quick(sweep, int(label), rest[1]))
    study = make(sweep, sqlite)
    kill_trial(study)
    left = study.trials[0]
    for _ in range(3):
        retry(study, left)
    assert states(study) == {"complete": 0, "pruned": 0, "failed": 0, "running": 0, "waiting": 2}
    assert attempts(study)[0].number == 2  # the first of the three
    kill_trial(study)  # trial 1
    kill_trial(study)  # the retry
    for trial in study.trials[1:3]:
        retry(study, trial)
    work(sweep, sqlite, place(tmp_path))
    assert sorted(ran) == [0, 1]
    assert states(study)["complete"] == 2


def kill_trial(study):
    """What is left if a worker dies, and so does the one that has just noticed."""
    study.tell(study.ask(), state=FAIL)


def test_who_opens_a_study_retries_what_two_deaths_left(sqlite, tmp_path, play):
    sweep = sweep_of(budget=2)
    study = make(sweep, sqlite)
    kill_trial(study)
    work(sweep, sqlite, place(tmp_path))
    assert states(study) == {"complete": 1, "pruned": 0, "failed": 1, "running": 0, "waiting": 0}
    for _ in range(2):  # the second finds nothing to do
        retry_abandoned(study, sweep.retries)
        assert [t.state.name for t in study.trials] == ["FAIL", "COMPLETE", "WAITING"]
    work(sweep, sqlite, place(tmp_path))
    assert states(study)["complete"] == 2


# Trials that fail


def failing(*which, reason="no luck"):
    """Trials that fail at these points of the budget."""

    def run_trial(sweep, label, seed, params, *_):
        if int(label) in which:
            raise ValueError(f"{reason} with {int(label)}")
        return quick(sweep, int(label), params)

    return run_trial


def test_a_failing_trial_costs_itself_alone(sqlite, tmp_path, play):
    sweep = sweep_of(budget=4)
    study = make(sweep, sqlite)
    play(failing(1))
    work(sweep, sqlite, place(tmp_path))
    assert [t.state for t in study.trials] == [COMPLETE, FAIL, COMPLETE, COMPLETE]
    assert study.trials[1].user_attrs[FAILURE] == "no luck with 1"
    retry_abandoned(study, sweep.retries)  # it has a reason: nobody died
    assert len(study.trials) == 4
    play(failing())
    assert retry_failed(study) == 1
    assert states(study) == {"complete": 3, "pruned": 0, "failed": 0, "running": 0, "waiting": 1}
    work(sweep, sqlite, place(tmp_path))
    assert states(study)["complete"] == 4
    again = attempts(study)[1]
    assert again.params == study.trials[1].params
    assert not again.user_attrs[FAILURE]
    assert retry_failed(study) == 0


def test_five_failures_in_a_row_stop_the_study(sqlite, tmp_path, play):
    sweep = sweep_of(budget=12)
    study = make(sweep, sqlite)
    play(failing(0, 1, 2, 3, 5, 6, 7, 8, 9))
    with pytest.raises(ValueError, match="5 trials in a row failed") as error:
        work(sweep, sqlite, place(tmp_path))
    assert [n for n in range(10) if f"no luck with {n}" in str(error.value)] == [5, 6, 7, 8, 9]
    assert "retry_failed=true" in str(error.value)
    assert states(study) == {"complete": 1, "pruned": 0, "failed": 9, "running": 0, "waiting": 2}
    play(failing(10))  # a new command begins a new row
    work(sweep, sqlite, place(tmp_path))
    assert states(study) == {"complete": 2, "pruned": 0, "failed": 10, "running": 0, "waiting": 0}


def test_failures_count_whatever_the_clock_shows(sqlite):
    """Those of another worker whose clock is an hour late, or of this one whose is set back."""
    study = make(sweep_of(budget=1), sqlite)
    before = worker.ended(study)
    late = datetime.now() - timedelta(hours=1)
    for slot in range(1, 1 + worker.IN_A_ROW):
        frozen = create_trial(state=FAIL, user_attrs={SLOT: slot, FAILURE: "no luck"})
        frozen.datetime_start = frozen.datetime_complete = late
        study.add_trial(frozen)
    with pytest.raises(worker.AllFail, match="no luck"):
        worker.stop_if_all_fail(study, before)
    worker.stop_if_all_fail(study, worker.ended(study))


def test_four_failures_in_a_row_do_not(sqlite, tmp_path, play):
    sweep = sweep_of(budget=9)
    study = make(sweep, sqlite)
    play(failing(0, 1, 2, 3, 5, 6, 7, 8))
    work(sweep, sqlite, place(tmp_path))
    assert states(study)["failed"] == 8


def test_a_pruned_trial_counts_as_one_that_went_well(sqlite, tmp_path, play):
    sweep = sweep_of(budget=9)
    study = make(sweep, sqlite)

    def run_trial(sweep, label, *_):
        raise Stopped("pruned") if label == "0004" else ValueError(label)

    play(run_trial)
    work(sweep, sqlite, place(tmp_path))
    assert states(study) == {"complete": 0, "pruned": 1, "failed": 8, "running": 0, "waiting": 0}


# Samplers and seeds


@pytest.mark.parametrize("sampler", [RANDOM, TPE])
def test_a_restarted_worker_does_not_repeat_itself(sampler, sqlite, tmp_path, play):
    for budget in (2, 4, 6):  # each time from a new sampler
        sweep = sweep_of(budget=budget, sampler=sampler)
        study = make(sweep, sqlite)
        work(sweep, sqlite, place(tmp_path))
    assert len({t.params[RATE] for t in study.trials}) == 6


def test_the_points_of_a_random_search_follow_from_the_trials_numbers(tmp_path, play, crew):
    """However many workers, and whichever of them takes a trial."""
    sweep = sweep_of(budget=8)
    alone, shared = (f"sqlite:///{tmp_path}/{name}.db" for name in ("alone", "shared"))
    studies = [make(sweep, alone), make(sweep, shared)]
    work(sweep, alone, place(tmp_path))
    workers = crew(sweep, shared)
    workers.start(3)
    assert workers.finish() == [0, 0, 0]
    ours, theirs = ([t.params for t in attempts(study).values()] for study in studies)
    assert ours == theirs


def test_a_study_of_one_worker_can_be_repeated(tmp_path, play):
    found = []
    for n in range(2):
        url = f"sqlite:///{tmp_path}/{n}.db"
        sweep = sweep_of(budget=5, sampler=TPE)
        study = make(sweep, url)
        work(sweep, url, place(tmp_path))
        found.append([t.params for t in study.trials])
    assert found[0] == found[1]


def test_seeds_follow_from_study_and_number():
    sweep = sweep_of()
    seeds = [sweep.trial_seed(n) for n in range(1000)]
    assert seeds == [sweep_of(question="Why?", budget=9).trial_seed(n) for n in range(1000)]
    assert seeds[:2] == [sweep_of().trial_seed(0), sweep_of().trial_seed(1)]
    assert len(set(seeds)) == 1000
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert sweep_of(name="other").trial_seed(0) != seeds[0]
    assert sweep_of(seed=1).trial_seed(0) != seeds[0]


def test_constraints_mark_trials_as_infeasible_for_the_sampler(sqlite, tmp_path, play):
    """The best trial is the best of those that keep to the bound."""
    bounds = {"gen/frac_finite": {"at_least": 0.005}}
    sweep = sweep_of(budget=8, constraints=bounds)
    study = make(sweep, sqlite)
    work(sweep, sqlite, place(tmp_path))
    rates = [t.params[RATE] for t in study.trials]
    assert min(rates) < 0.005 < max(rates)
    assert study.best_value == min(rate for rate in rates if rate >= 0.005)
    for trial in study.trials:
        assert trial.constraints["gen/frac_finite"] == pytest.approx(0.005 - trial.values[0])


def test_a_study_of_other_programs_is_refused(tmp_path):
    """Its trials have no slots: it would be taken for one without trials."""
    url = f"sqlite:///{tmp_path}/studies.db"
    study = optuna.create_study(storage=open_storage(url), study_name="tiny")
    study.enqueue_trial({})
    for use in (lambda: make(sweep_of(), url), lambda: load_study("tiny", url)):
        with pytest.raises(ValueError, match="study tiny is none of a sweep"):
            use()
