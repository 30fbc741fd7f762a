"""A worker: it takes trials of a study, one after the other, until none is left to take."""

import logging
import time
import warnings
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from experiments.harness.execution.signals import Stopped
from experiments.harness.runs.atomic_io import Busy
from sweeps.definition.sweep import Sweep
from sweeps.execution.study import (
    FAILURE,
    GIVEN_BACK,
    STATES,
    NoneWaiting,
    attempts,
    open_storage,
    retry,
    slot,
    states,
)
from sweeps.execution.trial import Place, Result, reason_of, run_trial, seed_of

log = logging.getLogger(__name__)

IN_A_ROW = 5  # failed trials after which the study stops: it is not the trials' fault
PAUSE = 2.0  # seconds between looks at what other workers do


class AllFail(ValueError):
    """It cannot be the trials' fault."""


class Overtaken(BaseException):
    """The trial was taken for dead and is another worker's now."""


class Ended(BaseException):
    """The worker was told to end, by the cause, and has given its trial back.

    Of its own, since Optuna would tell the trial's end once more if it saw a KeyboardInterrupt.
    """


class SeededByNumber(BaseSampler):
    """A sampler made anew for each trial, with a seed that follows from the trial's number.

    With one seed it would suggest after a restart, or at another worker, what was suggested before.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.sampler = sweep.make_sampler(0)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        sequence = np.random.SeedSequence([self.sweep.seed, trial.number])
        self.sampler = self.sweep.make_sampler(int(sequence.generate_state(1)[0]))
        self.sampler.before_trial(study, trial)

    def infer_relative_search_space(self, *arguments: Any) -> Any:
        return self.sampler.infer_relative_search_space(*arguments)

    def sample_relative(self, *arguments: Any) -> Any:
        return self.sampler.sample_relative(*arguments)

    def sample_independent(self, *arguments: Any) -> Any:
        return self.sampler.sample_independent(*arguments)

    def after_trial(self, *arguments: Any) -> None:
        self.sampler.after_trial(*arguments)


def work(sweep: Sweep, url: str, place: Place, heartbeat: int = 20) -> None:
    """Run trials until every one of the study has an outcome, here or at another worker.

    AllFail, with the reasons, after five failed trials in a row.
    """
    study = optuna.load_study(
        study_name=sweep.name,
        storage=open_storage(url, sweep.retries, heartbeat),
        sampler=SeededByNumber(sweep),
        pruner=sweep.make_pruner(),
    )
    objective = Objective(sweep, place)
    began = datetime.now()
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.optimize(objective, n_trials=1, catch=(Exception,), callbacks=[_tell])
        except NoneWaiting:
            if not states(study)["running"]:
                return
            time.sleep(PAUSE)  # a trial of a worker that dies will wait again
        except Overtaken:
            continue
        except Ended as ended:
            raise ended.__cause__ or ended from None
        stop_if_all_fail(study, began)


class Objective:
    """What Optuna calls with a trial."""

    def __init__(self, sweep: Sweep, place: Place) -> None:
        self.sweep = sweep
        self.place = place

    def __call__(self, trial: optuna.Trial) -> list[float]:
        sweep = self.sweep
        frozen = _frozen(trial)
        number = slot(frozen)
        label = f"{number:04d}"
        trial.set_user_attr("folder", label)
        try:
            trial.set_user_attr(FAILURE, None)  # of an attempt before
            params = sweep.suggest(trial)
            told = ", ".join(f"{k} = {v:.4g}" if isinstance(v, float) else f"{k} = {v}"
                             for k, v in params.items())  # fmt: skip
            log.info(f"{sweep.name}, trial {number}: {told}")
            observe = self._report(trial) if sweep.report is not None else None
            result = self._run(label, seed_of(sweep, number), params, observe)
        except Stopped as stopped:
            raise optuna.TrialPruned(str(stopped)) from stopped
        except Exception as error:
            if _frozen(trial).state != TrialState.RUNNING:
                raise Overtaken from error
            trial.set_user_attr(FAILURE, reason_of(error))
            log.info(f"{sweep.name}, trial {number} failed: {reason_of(error)}")
            raise
        except (KeyboardInterrupt, SystemExit) as ended:
            _give_back(trial)
            raise Ended from ended
        if _frozen(trial).state != TrialState.RUNNING:
            raise Overtaken
        self._tell(trial, result)
        return [float(result.summary[name]) for name in sweep.objectives]

    def _run(self, *arguments: Any) -> Result:
        """The trial, when its folder is free: a worker may be taken for dead and still be at work,
        as after a laptop's sleep. It will find out at the end of its trial, and leave it."""
        label, seed, params, observe = arguments
        while True:
            try:
                return run_trial(self.sweep, label, seed, params, self.place, observe)
            except Busy:
                time.sleep(PAUSE)

    def _report(self, trial: optuna.Trial) -> Callable[[str, Mapping[str, Any]], None]:
        report = self.sweep.report
        assert report is not None

        def observe(stage: str, row: Mapping[str, Any]) -> None:
            if stage != report.stage or row.get(report.metric) is None:
                return
            step = int(row[report.step])
            trial.report(float(row[report.metric]), step)
            if trial.should_prune():
                raise Stopped(f"pruned at {report.step} {step}: {report.metric} "
                              f"{row[report.metric]:.4g}")  # fmt: skip

        return observe

    def _tell(self, trial: optuna.Trial, result: Result) -> None:
        numbers = {k: v for k, v in result.summary.items() if isinstance(v, int | float)}
        trial.set_user_attr("metrics", numbers)
        trial.set_user_attr("energies", result.energies)
        for name, bound in self.sweep.constraints.items():
            trial.set_constraint(name, bound.excess(float(result.summary[name])))


def _tell(study: optuna.Study, trial: FrozenTrial) -> None:
    """One line about a trial's end, and what is left."""
    counts = states(study)
    left = counts["waiting"] + counts["running"]
    values = ", ".join(f"{value:.4g}" for value in trial.values or [])
    what = f"{STATES[trial.state]}{': ' * bool(values)}{values}"
    log.info(
        f"{study.study_name}, trial {slot(trial)} {what}; {left} of {len(attempts(study))} left"
    )


def _frozen(trial: optuna.Trial) -> FrozenTrial:
    return trial.study.get_trials(deepcopy=False)[trial.number]


def _give_back(trial: optuna.Trial) -> None:
    """A worker that is told to end lets its trial wait for another, or for its return."""
    study, frozen = trial.study, _frozen(trial)
    if frozen.state == TrialState.RUNNING:  # else it was taken for dead, and waits already
        trial.set_user_attr(GIVEN_BACK, frozen.user_attrs.get(GIVEN_BACK, 0) + 1)
        study.tell(trial, state=TrialState.FAIL)
        retry(study, _frozen(trial))


def stop_if_all_fail(study: optuna.Study, since: datetime) -> None:
    """AllFail, with the reasons, if the last trials that ended since then all failed."""
    done = [t for t in attempts(study).values() if t.datetime_complete is not None
            and t.datetime_complete >= since and t.state.is_finished()]  # fmt: skip
    last = sorted(done, key=lambda t: t.datetime_complete or since)[-IN_A_ROW:]
    if len(last) == IN_A_ROW and all(t.state == TrialState.FAIL for t in last):
        trials: dict[str, list[str]] = {}
        for t in last:
            reason = t.user_attrs.get(FAILURE) or "its worker died"
            trials.setdefault(reason, []).append(str(slot(t)))
        reasons = "; ".join(f"trial {', '.join(n)}: {reason}" for reason, n in trials.items())
        raise AllFail(
            f"{IN_A_ROW} trials in a row failed, and the study stops ({reasons}); mend the cause, "
            "then repeat the command with retry_failed=true"
        )
