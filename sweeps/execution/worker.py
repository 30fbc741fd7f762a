"""A worker: it takes queued trials of a study, one after the other, until none is left."""

import logging
import time
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from experiments.harness.execution.signals import Stopped
from experiments.harness.runs.atomic_io import Busy
from sweeps.definition.sweep import Sweep
from sweeps.execution import study as studies
from sweeps.execution.storage import HEARTBEAT
from sweeps.execution.study import FAILURE, GIVEN_BACK, SLOT, STATES, attempts, frozen
from sweeps.execution.trial import Place, Result, reason_of, run_trial

log = logging.getLogger(__name__)

IN_A_ROW = 5  # failed trials after which the study stops: the cause is not in the trials
PAUSE = 2.0  # seconds between looks at what other workers do


class AllFail(ValueError):
    """The last five trials failed."""


class Extra(Exception):
    """The trial is not the current attempt of a slot: several processes created it at once."""


class Overtaken(BaseException):
    """The worker was taken for dead, and its trial is another worker's now."""


class Ended(BaseException):
    """The worker was ended from outside (its cause), and has given its trial back."""


class SeededBySlot(BaseSampler):
    """A sampler created anew for each trial, with a seed from its slot, so that no restarted or
    second worker suggests the same points again."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep, self.sampler = sweep, sweep.make_sampler(0)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        sequence = np.random.SeedSequence([self.sweep.seed, trial.user_attrs.get(SLOT, 0)])
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


def work(sweep: Sweep, url: str, place: Place, heartbeat: int = HEARTBEAT) -> None:
    """Run trials until every one of the budget has a result, here or at another worker.

    AllFail, with the reasons, after five failed trials in a row.
    """
    storage, pruner = studies.storage_of(sweep, url, heartbeat), sweep.make_pruner()
    study = optuna.load_study(
        study_name=sweep.name, storage=storage, sampler=SeededBySlot(sweep), pruner=pruner
    )
    objective, before = Objective(sweep, place), ended(study)
    while True:
        optuna.storages.fail_stale_trials(study)  # and queue them again
        if study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            try:
                study.optimize(objective, n_trials=1, catch=(Exception,), callbacks=[_log_end])
                stop_if_all_fail(study, before)
            except Overtaken:
                pass
            except Ended as end:
                raise end.__cause__ or end from None
        elif studies.states(study)["running"]:
            time.sleep(PAUSE)  # the trial of a worker that dies will be queued again
        else:
            return


@dataclass(frozen=True)
class Objective:
    """What Optuna calls with a trial."""

    sweep: Sweep
    place: Place

    def __call__(self, trial: optuna.Trial) -> list[float]:
        slot = trial.user_attrs.get(SLOT)
        if slot is None or attempts(trial.study)[slot].number != trial.number:
            raise Extra
        try:
            result = self._result(trial, slot)
        except Stopped as stopped:
            raise optuna.TrialPruned(str(stopped)) from stopped
        except Exception as error:
            if frozen(trial).state != TrialState.RUNNING:
                raise Overtaken from error
            trial.set_user_attr(FAILURE, reason_of(error))
            log.info(f"{self.sweep.name}, trial {slot} failed: {reason_of(error)}")
            raise
        except (KeyboardInterrupt, SystemExit) as end:
            _give_back(trial)
            raise Ended from end  # Optuna would fail the trial again on a KeyboardInterrupt
        if frozen(trial).state != TrialState.RUNNING:
            raise Overtaken
        summary = {k: v for k, v in result.summary.items() if isinstance(v, int | float)}
        trial.set_user_attr("metrics", summary)
        trial.set_user_attr("energies", result.energies)
        for name, bound in self.sweep.constraints.items():
            trial.set_constraint(name, bound.excess(float(summary[name])))
        return [float(summary[name]) for name in self.sweep.objectives]

    def _result(self, trial: optuna.Trial, slot: int) -> Result:
        """Run the trial, once its folder is free: a worker that was taken for dead may be at work
        still, as after a laptop's sleep, and finds out at the end of its trial."""
        label, seed = f"{slot:04d}", self.sweep.trial_seed(slot)
        trial.set_user_attr("folder", label)
        trial.set_user_attr(FAILURE, None)  # of an attempt before
        params = self.sweep.suggest(trial)
        texts = [f"{k} = {v:.4g}" if type(v) is float else f"{k} = {v}" for k, v in params.items()]
        log.info(f"{self.sweep.name}, trial {slot}: {', '.join(texts)}")

        def observe(stage: str, row: Mapping[str, Any]) -> None:
            """Pass the stage's metric to the pruner; Stopped if that prunes."""
            report = self.sweep.report
            if report is None or stage != report.stage or row.get(report.metric) is None:
                return
            step, value = int(row[report.step]), float(row[report.metric])
            trial.report(value, step)
            if trial.should_prune():
                raise Stopped(f"pruned at {report.step} {step}: {report.metric} {value:.4g}")

        observer = observe if self.sweep.report is not None else None
        while True:
            try:
                return run_trial(self.sweep, label, seed, params, self.place, observer)
            except Busy:
                time.sleep(PAUSE)


def _log_end(study: optuna.Study, trial: FrozenTrial) -> None:
    """Log a trial's end, and how many are left."""
    current, counts, slot = attempts(study), studies.states(study), trial.user_attrs.get(SLOT)
    if slot is not None and current[slot].number == trial.number:
        what = ": ".join([STATES[trial.state], *(f"{value:.4g}" for value in trial.values or [])])
        left = counts["waiting"] + counts["running"]
        log.info(f"{study.study_name}, trial {slot} {what}; {left} of {len(current)} left")


def _give_back(trial: optuna.Trial) -> None:
    """Queue the trial of a worker that is ended from outside, for another or for its return."""
    now = frozen(trial)
    if now.state == TrialState.RUNNING:  # else it was taken for dead, and is queued already
        trial.set_user_attr(GIVEN_BACK, now.user_attrs.get(GIVEN_BACK, 0) + 1)
        trial.study.tell(trial, state=TrialState.FAIL)
        studies.retry(trial.study, frozen(trial))


def ended(study: optuna.Study) -> set[int]:
    """Return the numbers of the trials that have ended."""
    return {t.number for t in study.get_trials(deepcopy=False) if t.state.is_finished()}


def stop_if_all_fail(study: optuna.Study, before: Set[int]) -> None:
    """AllFail, with the reasons, if the last trials that ended, but not `before`, all failed.

    Last is what was queued last: the clocks of workers differ, and may be set back.
    """
    new = ended(study) - before
    some = sorted((t.number, slot, t) for slot, t in attempts(study).items() if t.number in new)
    last = some[-IN_A_ROW:]
    if len(last) < IN_A_ROW or any(t.state != TrialState.FAIL for _, _, t in last):
        return
    slots: dict[str, list[str]] = {}
    for _, slot, t in last:
        slots.setdefault(t.user_attrs.get(FAILURE) or "its worker died", []).append(str(slot))
    reasons = "; ".join(f"trial {', '.join(some)}: {reason}" for reason, some in slots.items())
    raise AllFail(
        f"{IN_A_ROW} trials in a row failed, and the study stops ({reasons}); mend the cause, "
        "then repeat the command with retry_failed=true"
    )
