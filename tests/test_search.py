"""Searches: what they compare, what they never look at, and that a stopped one goes on."""

import csv
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from omegaconf import OmegaConf

from hep2.errors import HEp2Error
from hep2.rundir.metrics_csv import validation_mca
from hep2.sweep import folds
from hep2.sweep.folds import composed, fold_by_fold

SWEEPS = ("sweep.yaml", "conf/sweep_bayes.yaml")


def write_metrics(run_dir: Path, rows: list[dict]) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (run_dir / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def test_the_figure_is_that_of_the_weights_that_are_kept(tmp_path):
    rows = [
        {
            "epoch": 0,
            "val/loss": 0.9,
            "train/specimen/mca": 0.1,
            "val/specimen/mca": 0.5,
            "val/specimen/aca": 0.4,
        },
        {"epoch": 1, "train/loss": 0.1},
        {"epoch": 1, "val/loss": 0.7, "val/specimen/mca": 0.6, "val/specimen/aca": 0.7},
        {"epoch": 2, "val/loss": 0.8, "val/specimen/mca": 0.9, "val/specimen/aca": 0.8},
    ]
    write_metrics(tmp_path, rows)
    assert validation_mca(tmp_path) == 0.6
    write_metrics(tmp_path, [{"epoch": 0, "train/loss": 0.1}])
    with pytest.raises(HEp2Error, match="no MCA on validation cells"):
        validation_mca(tmp_path)
    write_metrics(tmp_path, [{"epoch": 0, "val/loss": 0.1, "val/specimen/mca": "nan"}])
    with pytest.raises(HEp2Error, match="no MCA on validation cells"):
        validation_mca(tmp_path)


@pytest.fixture
def jobs(monkeypatch):
    """The jobs that a search would run; each fold's head gets 0.5 + fold / 10."""
    ran = []

    def run(job):
        ran.append(job)
        mca = 0.5 + job.cfg.fold / 10
        write_metrics(job.run.path, [{"epoch": 0, "val/loss": 1, "val/specimen/mca": mca}])

    monkeypatch.setattr(folds, "_run", run)
    return ran


def test_all_folds_share_what_is_no_head_s_business(tmp_path, jobs):
    given = [f"runs_dir={tmp_path}", "name=tuning", "data.source.cells=120"]
    for dropout in (0.1, 0.2):
        tuned = [f"head.dropout={dropout}", "stage.optimizer.lr=0.01"]
        assert list(fold_by_fold(given, tuned, [0, 2])) == [0.5, 0.7]
    encoders, heads = jobs[0::2], jobs[1::2]
    assert [job.run.path for job in encoders[:2]] == [job.run.path for job in encoders[2:]]
    assert len({job.run.path for job in heads}) == 4
    assert {job.cfg.stage.optimizer.lr for job in encoders} == {3.0e-3}, "its own, not the head's"
    assert {job.cfg.stage.optimizer.lr for job in heads} == {0.01}
    for encoder, head in zip(encoders, heads, strict=True):
        assert head.cfg.encoder == str(encoder.run.best)
        assert encoder.cfg.name == "tuning"
        assert {encoder.cfg.data.source.cells, head.cfg.data.source.cells} == {120}
    again = len(jobs)
    list(fold_by_fold(given, ["stage.optimizer.lr=0.01", "head.dropout=0.2"], [0]))
    assert jobs[again + 1].run.path == heads[2].run.path, "the order of the words says nothing"


def test_another_network_has_encoders_of_its_own(tmp_path, jobs):
    given = [f"runs_dir={tmp_path}", "name=tuning"]
    list(fold_by_fold(given, ["model.network.widths=[8,8,8,8]", "head.dropout=0.1"], [0]))
    list(fold_by_fold(given, ["model.network.widths=[9,8,8,8]", "head.dropout=0.1"], [0]))
    assert jobs[0].run.path != jobs[2].run.path


def test_the_mean_over_the_folds_is_printed(tmp_path, jobs, capsys):
    folds.main(["--folds", "0,1,2", f"runs_dir={tmp_path}", "head.dropout=0.1"])
    assert capsys.readouterr().out.splitlines()[-1] == "mean_val_mca 0.6000"


def test_a_failed_job_is_told_with_its_log(tmp_path, monkeypatch):
    program = tmp_path / "program.py"
    program.write_text("import sys\nprint('no such luck')\nsys.exit(3)\n")
    monkeypatch.setattr(folds, "PROGRAM", program)
    with pytest.raises(HEp2Error, match="exit code 3") as failure:
        list(fold_by_fold([f"runs_dir={tmp_path}"], [], [0]))
    assert "no such luck" in str(failure.value)
    assert f"again: python {program} protocol.validation=0.2 runs_dir={tmp_path}" in str(
        failure.value
    )


class TestOptuna:
    """The study itself, on figures that a formula gives."""

    SPACE = {  # noqa: RUF012
        "head.dropout": {"low": 0.0, "high": 1.0},
        "head.widths": {"choices": ["[8]", "[9]"]},
    }

    @pytest.fixture
    def search(self, monkeypatch):
        pytest.importorskip("optuna")
        from hep2 import search

        def figures(given, tuned, folds):
            dropout = float(tuned[0].partition("=")[2])
            for _ in folds:
                if dropout > 0.9:
                    raise HEp2Error("too much")
                yield 1 - dropout

        monkeypatch.setattr(search, "fold_by_fold", figures)
        return search

    def test_a_study_goes_on_where_it_was_left(self, search, tmp_path):
        tried = 0
        for trials in (3, 6, 6):
            study = search.open_study(tmp_path / "search.db", "tuning")
            ended = study.get_trials(states=search.ENDED)
            tried += trials - len(ended)  # also where they fail: they are not tried for ever
            search.search(study, self.SPACE, [], [0, 1, 2], trials)
            assert len(study.trials) == tried
        ended = study.get_trials(states=search.ENDED)
        drawn = [trial.params["head.dropout"] for trial in study.trials]
        assert len(set(drawn)) == len(drawn), "a study that goes on does not repeat itself"
        best = max(1 - trial.params["head.dropout"] for trial in ended)
        assert study.best_value == pytest.approx(best)

    def test_two_searches_at_once_share_a_study(self, search, tmp_path):
        def one(_):
            study = search.open_study(tmp_path / "search.db", "tuning")
            search.search(study, self.SPACE, [], [0, 1], 6)
            return study

        with ThreadPoolExecutor(2) as both:
            studies = list(both.map(one, range(2)))
        trials = studies[0].get_trials()
        assert trials == studies[1].get_trials()
        assert len({trial.params["head.dropout"] for trial in trials}) == len(trials)
        assert 5 <= len(trials) <= 12, "neither does it all again"

    def test_an_interrupted_trial_is_the_next_one(self, search, tmp_path, monkeypatch):
        def figures(given, tuned, folds):
            yield 0.5
            raise KeyboardInterrupt

        study = search.open_study(tmp_path / "search.db", "tuning")
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(search, "fold_by_fold", figures)
            search.search(study, self.SPACE, [], [0, 1], 1)
        assert [trial.state.name for trial in study.trials] == ["FAIL", "WAITING"]
        study = search.open_study(tmp_path / "search.db", "tuning")
        search.search(study, self.SPACE, [], [0, 1], 1)
        first, again = study.trials
        assert again.params == first.params
        assert (again.state.name, again.value) == ("COMPLETE", 1 - first.params["head.dropout"])

    def test_its_pictures_are_drawn(self, search, tmp_path):
        study = search.open_study(tmp_path / "search.db", "tuning")
        search.search(study, self.SPACE, [], [0, 1], 4)
        drawn = search.plot_study(study, tmp_path / "pictures", "synthetic data")
        assert [path.stem for path in drawn] == ["history", "folds", "importances", "settings"]
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)

    def test_a_space_is_checked(self, search, tmp_path):
        space = search.read_space(ROOT / "conf/search.yaml")
        file = tmp_path / "space.yaml"
        for text, message in (
            ("a.b: {low: little, high: 1}", "a.b.low=little is not a number"),
            ("a.b: {low: 1}", "needs low and high, or choices"),
            ("", "names no setting"),
        ):
            file.write_text(text)
            with pytest.raises(HEp2Error, match=message):
                search.read_space(file)
        from optuna.trial import FixedTrial

        values = {"head.widths": "[]"} | {
            key: entry["low"] for key, entry in space.items() if "low" in entry
        }
        cfg = composed(["stage=head", *search.suggest(FixedTrial(values), space)])
        assert (cfg.head.widths, cfg.stage.optimizer.lr) == ([], 1.0e-4)


def violations(sweep: dict) -> list[str]:
    """What W&B's server would refuse, or silently misread, in a sweep's configuration.

    Our own rules, for wandb ships no schema. W&B's (schema.json of its package sweeps 0.3.0, which
    needs numpy 1) has no objection to the two files either.
    """
    known = {"program", "method", "metric", "command", "parameters", "early_terminate", "name"}
    found = [f"unknown key {key}" for key in set(sweep) - known]
    if sweep["method"] not in ("grid", "random", "bayes"):
        found.append(f"method {sweep['method']}")
    if sweep["method"] == "bayes" and not {"name", "goal"} <= set(sweep.get("metric", {})):
        found.append("bayes without a metric")
    if sweep.get("metric", {}).get("goal", "maximize") not in ("maximize", "minimize"):
        found.append(f"goal {sweep['metric']['goal']}")
    stop = sweep.get("early_terminate", {"type": "hyperband", "min_iter": 1})
    if stop.get("type") != "hyperband" or not {"min_iter", "max_iter"} & set(stop):
        found.append(f"early_terminate {stop}")
    for name, entry in sweep["parameters"].items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name):
            found.append(f"{name}: not a name that W&B takes")
        found += [f"{name}: {what}" for what in wrong_values(entry, sweep["method"])]
    return found


def wrong_values(entry: dict, method: str) -> list[str]:
    kinds = ("uniform", "log_uniform_values", "int_uniform", "categorical", "constant")
    if entry.get("distribution", "uniform") not in kinds:
        return [f"distribution {entry['distribution']}"]
    forms = [key for key in ("value", "values", "min") if key in entry]
    if len(forms) != 1 or ("min" in entry) != ("max" in entry):
        return ["needs value, values, or min and max"]
    if forms == ["min"]:
        ends = entry["min"], entry["max"]
        if not all(isinstance(end, int | float) for end in ends):
            return [f"{ends} are no numbers"]
        return [f"no range for {method}"] if ends[0] >= ends[1] or method == "grid" else []
    values = entry.get("values", [entry.get("value")])
    numeric = re.compile(r"[-+\d.]+(e[-+]?\d+)?")
    words = [value for value in values if isinstance(value, str) and numeric.fullmatch(value)]
    return [f"{word} is a word, not a number" for word in words]


def agent_arguments(sweep: dict, pick: int = 0) -> list[str]:
    """The overrides that W&B's agent passes on for one configuration of a sweep."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    args = {}
    for name, entry in sweep["parameters"].items():
        values = [entry["min"], entry["max"]] if "min" in entry else entry.get("values")
        args[name] = {"value": entry["value"] if values is None else values[pick % len(values)]}
    args = {"args": args}
    return create_sweep_command_args(args)["args_no_hyphens"]


@pytest.mark.parametrize("file", SWEEPS)
def test_sweeps_of_wandb_are_well_formed_and_compose(file):
    sweep = yaml.safe_load((ROOT / file).read_text())
    assert violations(sweep) == []
    assert sweep["command"][-1] == "${args_no_hyphens}"
    assert (ROOT / sweep["program"]).is_file()
    most = max(len(entry.get("values", "12")) for entry in sweep["parameters"].values())
    for pick in range(most):
        words = [word for word in agent_arguments(sweep, pick) if word != "stage=head"]
        cfg = composed(["stage=head", *words])
        for word in words:
            key, _, value = word.partition("=")
            node = OmegaConf.select(cfg, key)
            found = node.name if OmegaConf.is_config(node) else node
            assert str(found) == value, "every value arrives where it is meant to"


def test_a_search_by_wandb_neither_sees_one_fold_nor_the_test_cells():
    sweep = yaml.safe_load((ROOT / "conf/sweep_bayes.yaml").read_text())
    assert sweep["metric"] == {"name": folds.METRIC, "goal": "maximize"}
    assert "fold" not in sweep["parameters"]
    assert sweep["command"][2:4] == ["-m", "hep2.sweep.folds"]


@pytest.mark.parametrize(
    ("text", "violation"),
    [
        ("{lr: {min: 1e-4, max: 1.0e-2}}", "are no numbers"),
        ("{lr: {values: [1e-4]}}", "is a word, not a number"),
        ("{lr: {min: 2, max: 1}}", "no range"),
        ("{model/lr: {value: 1}}", "not a name"),
        ("{lr: {value: 1, values: [1]}}", "needs value, values"),
        ("{lr: {distribution: log_uniform, min: 1, max: 2}}", "distribution log_uniform"),
    ],
)
def test_what_wandb_would_refuse_is_seen(text, violation):
    sweep = {"program": "p", "method": "random", "parameters": yaml.safe_load(text)}
    assert len(violations(sweep)) == 1
    assert violation in violations(sweep)[0]
