"""Hyper-parameter search by Optuna, without a server: the mean validation MCA over all folds.

    python -m hep2.search --trials 30 name=tuning data=synthetic protocol=published

The same command again goes on with the study, with the trial that was interrupted first; started
twice at once, two processes share it. Pictures of the study lie in runs/<name>/search.
Ranges are in conf/search.yaml. Encoders are trained once a fold and shared by all trials.
"""

import io
import logging
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf

from hep2 import cli
from hep2.config import composed, conf_folders
from hep2.data.fold import open_fold
from hep2.errors import HEp2Error, Terminated
from hep2.files import locked, write_atomic
from hep2.signals import die_with_parent
from hep2.sweep.folds import METRIC, fold_by_fold, fold_numbers

log = logging.getLogger(__name__)

warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)

HEARTBEAT = 10  # seconds; a trial whose process is silent for three of them is tried again
ENDED = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)

Space = Mapping[str, Mapping[str, Any]]


def read_space(path: Path) -> Space:
    """Read the ranges of a search.

    Raises:
        HEp2Error: the file is missing, or an entry is neither a range nor a list of choices.
    """
    try:
        space: Any = OmegaConf.to_container(OmegaConf.load(path))
    except OSError as error:
        raise HEp2Error(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(space, dict) or not space:
        raise HEp2Error(f"{path} names no setting to search")
    for key, entry in space.items():
        if not isinstance(entry, dict) or not ({"low", "high"} <= set(entry) or "choices" in entry):
            raise HEp2Error(f"{path}: {key} needs low and high, or choices")
        for end in ("low", "high"):
            if not isinstance(entry.get(end, 0), int | float):
                raise HEp2Error(f"{path}: {key}.{end}={entry[end]} is not a number")
    return {str(key): entry for key, entry in space.items()}


def suggest(trial: optuna.trial.BaseTrial, space: Space) -> list[str]:
    """One choice for every setting, as overrides of train.py."""

    def value(key: str, entry: Mapping[str, Any]) -> Any:
        if "choices" in entry:
            return trial.suggest_categorical(key, entry["choices"])
        low, high, log_scale = entry["low"], entry["high"], entry.get("log", False)
        if isinstance(low, int) and isinstance(high, int):
            return trial.suggest_int(key, low, high, log=log_scale)
        return trial.suggest_float(key, low, high, log=log_scale)

    return [f"{key}={value(key, entry)}" for key, entry in space.items()]


def open_study(path: Path, name: str) -> optuna.Study:
    """The study in a SQLite file, new or as it was left; lost trials are tried again."""
    with locked(path.with_suffix(".lock"), wait=True):  # two at once would both make its tables
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{path.resolve()}",
            engine_kwargs={"connect_args": {"timeout": 60}},
            heartbeat_interval=HEARTBEAT,
            grace_period=3 * HEARTBEAT,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(2),
        )
        return optuna.create_study(
            study_name=name,
            storage=storage,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
        )


def search(
    study: optuna.Study,
    space: Space,
    given: Sequence[str],
    folds: Sequence[int],
    trials: int,
    seed: int = 0,
) -> None:
    """Go on until this many trials have ended; a trial that fails is logged and left.

    A trial that is interrupted is the first one that the next search takes up.
    """

    def objective(trial: optuna.Trial) -> float:
        # One seed for a study would give the same draws to each of its processes, and again to a
        # search that goes on.
        study.sampler = optuna.samplers.TPESampler(seed=seed + trial.number)
        tuned = suggest(trial, space)
        scores: list[float] = []
        try:
            for step, score in enumerate(fold_by_fold(given, tuned, folds)):
                scores.append(score)
                trial.report(statistics.fmean(scores), step=step)
                if step + 1 < len(folds) and trial.should_prune():
                    raise optuna.TrialPruned
        except (KeyboardInterrupt, Terminated):
            study.enqueue_trial(trial.params)
            raise
        return statistics.fmean(scores)

    missing = trials - len(study.get_trials(deepcopy=False, states=ENDED))
    if missing > 0:
        stop = optuna.study.MaxTrialsCallback(trials, states=ENDED)
        study.optimize(objective, n_trials=missing, callbacks=[stop], catch=(HEp2Error,))


def _space() -> Path:
    """conf/search.yaml: a user's own, or the one that comes with hep2."""
    places = [place / "search.yaml" for place in conf_folders()]
    return next(file for file in places if file.is_file())


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, and say what was best."""
    die_with_parent()
    parser = cli.parser("hep2.search", __doc__)
    parser.add_argument("--trials", type=int, default=30, help="trials of the study, all in all")
    parser.add_argument(
        "--folds", type=fold_numbers, default="0,1,2,3,4", help="numbers with commas between them"
    )
    parser.add_argument("--space", type=Path, default=_space())
    parser.add_argument("overrides", nargs="*", help="as for train.py; name=... names the study")
    asked = parser.parse_args(arguments)
    with cli.clear_errors():
        _search(asked.overrides, read_space(asked.space), asked.folds, asked.trials)


def _search(given: Sequence[str], space: Space, folds: Sequence[int], trials: int) -> None:
    cfg = composed(given)
    folder = Path(cfg.runs_dir) / str(cfg.name)
    study = open_study(folder / "search.db", str(cfg.name))
    search(study, space, given, folds, trials, cfg.seed)
    ended = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if not ended:
        raise HEp2Error("no trial has ended well: the reasons stand above")
    synthetic = "synthetic data, " if cfg.data.name == "synthetic" else ""
    leaky = " (leaky)" if open_fold(cfg).split.leaky else ""
    remark = f"{synthetic}protocol {cfg.protocol.name}{leaky}, folds {','.join(map(str, folds))}"
    for path in plot_study(study, folder / "search", remark):
        print(path)
    best = [f"{key}={value}" for key, value in study.best_params.items()]
    print(
        f"best of {len(ended)} whole trials: {METRIC} {study.best_value:.4f} with {' '.join(best)}"
    )


def plot_study(study: optuna.Study, folder: Path, remark: str) -> list[Path]:
    """Draw a study; what cannot be drawn yet (importances of one trial) is left out.

    Args:
        study: of Optuna.
        folder: where the pictures go.
        remark: the title of all of them: which data, folds and protocol.

    Returns:
        The pictures' files.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    pictures: dict[str, Callable[[], Any]] = {
        "history": lambda: plots.plot_optimization_history(study, target_name=METRIC),
        "folds": lambda: plots.plot_intermediate_values(study),
        "importances": lambda: plots.plot_param_importances(study, target_name=METRIC),
        "settings": lambda: plots.plot_slice(study, target_name=METRIC),
    }
    drawn = []
    for name, plot in pictures.items():
        try:
            plot()
        except (ValueError, RuntimeError) as error:
            log.info("%s is not drawn: %s", name, error)
        else:
            pyplot.suptitle(remark)
            buffer = io.BytesIO()
            pyplot.savefig(buffer, dpi=150, bbox_inches="tight")
            drawn.append(folder / f"{name}.png")
            write_atomic(drawn[-1], buffer.getvalue())
        pyplot.close("all")
    return drawn


if __name__ == "__main__":
    main()
