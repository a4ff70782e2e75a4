"""Any classifier of scikit-learn, from YAML alone."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Configure
from hydra.errors import HydraException
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import GridSearchCV
from sklearn.svm import LinearSVC

from hep2.cli import explained
from hep2.data.fold import Fold
from hep2.errors import HEp2Error
from hep2.evaluation.report import make_report
from hep2.heads.estimator import Classifier, TrainingCells, combinations, inner_folds
from hep2.run import fit
from hep2.rundir.directory import RunDir
from hep2.stages.classifier import EstimatorStage
from hep2.stages.scores import score_classifier

FOREST = ("stage=head", "features=handcrafted", "head=forest", "stage.inner_folds=3")
SMALL = "head.estimator.classifier.n_estimators=15"


def mean_recall(model: Any, features: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The MCA by scikit-learn."""
    outputs, present = model.predict(features), np.unique(labels)
    return float(recall_score(labels, outputs, labels=present, average="macro", zero_division=0))


def test_a_forest_from_yaml_is_scikit_learn_s(
    configure: Configure, fold: Fold, tmp_path: Path
) -> None:
    cfg = configure(*FOREST, SMALL)
    run = fit(cfg)
    stage = EstimatorStage(cfg, fold, RunDir(tmp_path / "unused"))
    train, test = fold.split.train, fold.split.test
    features, labels = stage.inputs.of(train), fold.cells.labels[train]
    bare = GridSearchCV(
        RandomForestClassifier(n_estimators=15, random_state=0),
        {"max_features": ["sqrt", 0.1]},
        scoring=mean_recall,
        cv=inner_folds(fold, 3),
    ).fit(features, labels)
    found = json.loads(run.result.read_text())
    assert found["method"] == "handcrafted-forest"
    assert found["chosen"] == bare.best_params_ | {"inner_mca": pytest.approx(bare.best_score_)}
    shares = bare.predict_proba(stage.inputs.of(test))
    rows = pd.read_csv(run.predictions).set_index("id").loc[fold.cells.ids[test]]
    columns = [column for column in rows if column.startswith("p_")]
    assert len(columns) == shares.shape[1] == 5
    assert np.allclose(rows[columns], shares, atol=1e-6)


def test_figures_are_split_by_intensity_where_it_is_known(fold: Fold, tmp_path: Path) -> None:
    test, classes = fold.split.test, len(fold.cells.classes)
    labels = fold.cells.labels[test]
    shares = np.eye(classes)[np.where(np.arange(len(test)) % 3, labels, (labels + 1) % classes)]
    run = RunDir(tmp_path)
    assert "by_intensity" not in score_classifier(fold, run, shares)
    strengths = np.full(len(fold.cells), "intermediate")
    strengths[test[::3]] = "positive"  # those that are wrong
    known = replace(fold, cells=replace(fold.cells, intensities=strengths))
    wrong = len(test[::3])
    assert score_classifier(known, run, shares)["by_intensity"] == {
        "intermediate": {"cells": len(test) - wrong, "aca": 1.0, "mca": 1.0},
        "positive": {"cells": wrong, "aca": 0.0, "mca": 0.0},
    }


# --- what it can be given


def cells(labels: list[int], **more: Any) -> TrainingCells:
    features = np.random.default_rng(0).normal(size=(len(labels), 3)).astype(np.float32)
    return TrainingCells(features, np.array(labels), 4, **more)


def test_a_grid_is_tried_in_its_order_and_may_be_empty() -> None:
    assert combinations({}) == [{}]
    assert combinations({"b": [1, 2], "a": [3, 4]}) == [
        {"b": 1, "a": 3}, {"b": 1, "a": 4}, {"b": 2, "a": 3}, {"b": 2, "a": 4},
    ]  # fmt: skip
    head = Classifier(LogisticRegression(), {})
    head.fit(cells([0, 3] * 5))
    assert head.chosen == {"inner_mca": None}
    assert head.probabilities(np.zeros((2, 3), np.float32)).shape == (2, 4)


def test_of_equal_settings_the_first_is_chosen() -> None:
    rows = np.arange(10)
    head = Classifier(DummyClassifier(), {"strategy": ["prior", "most_frequent"]})
    head.fit(cells([0, 3] * 5, folds=[(rows, rows)]))
    assert head.chosen == {"strategy": "prior", "inner_mca": 0.5}


def test_one_pattern_is_named_though_the_classifier_refuses_to_learn_it() -> None:
    head = Classifier(LogisticRegression(), {"C": [1.0, 10.0]})
    rows = np.arange(6)
    head.fit(cells([2] * 6, folds=[(rows[:3], rows[3:])]))
    assert np.array_equal(head.probabilities(np.zeros((1, 3), np.float32)), [[0, 0, 1, 0]])


def test_class_weights_reach_a_classifier_that_can_weigh() -> None:
    heavy, light = (Classifier(LogisticRegression(), {}) for _ in range(2))
    labels = [0] * 8 + [1] * 2
    heavy.fit(cells(labels, class_weights=[0.1, 10.0, 0.0, 0.0]))
    light.fit(cells(labels))
    query = np.zeros((1, 3), np.float32)
    assert heavy.probabilities(query)[0, 1] > 0.5 > light.probabilities(query)[0, 1]


def test_a_setting_may_be_a_list_and_is_reported(configure: Configure, tmp_path: Path) -> None:
    cfg = configure(*FOREST[:2], "protocol=random")
    network = {"_target_": "sklearn.neural_network.MLPClassifier", "tol": 1, "random_state": 0}
    grid = {"hidden_layer_sizes": [[4, 3]]}
    target = "hep2.heads.estimator.Classifier"
    cfg.head = {
        "name": "layers",
        "estimator": {"_target_": target, "classifier": network, "grid": grid},
    }
    run = fit(cfg)
    make_report("default", run.path.parents[4], tmp_path / "reports")
    (page,) = (tmp_path / "reports").rglob("*.html")
    assert "hidden_layer_sizes=[4, 3]" in page.read_text()


# --- what is refused, in one sentence


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("head.estimator.grid=3", "grid=3 must name settings of RandomForestClassifier"),
        ("+head.estimator.grid.trees=[1]", "RandomForestClassifier has no setting trees; it has b"),
        ("+head.estimator.grid.max_depth=3", "grid: max_depth=3 must be a list of numbers or wor"),
        ("+head.estimator.grid.max_depth=[]", r"grid: max_depth=\[\] must be a list of numbers"),
        ("+head.estimator.grid.max_depth=[nan]", r"grid: max_depth=\[nan\] must be a list of num"),
    ],
)
def test_a_faulty_grid_is_refused(word: str, sentence: str, configure: Configure) -> None:
    with pytest.raises(HydraException) as refused:
        fit(configure(*FOREST, SMALL, word))
    said = explained(refused.value)
    assert said.startswith("head.estimator.grid") and re.search(sentence, said)
    assert isinstance(refused.value.__cause__, HEp2Error)


def test_a_classifier_without_probabilities_is_refused() -> None:
    with pytest.raises(HEp2Error, match=r"classifier=LinearSVC\(\) has no predict_proba: choose"):
        Classifier(LinearSVC(), {})
    with pytest.raises(HEp2Error, match=r"classifier=svc has no predict_proba"):
        Classifier("svc", {})


def test_a_value_that_the_classifier_refuses_is_told(configure: Configure) -> None:
    with pytest.raises(
        HEp2Error,
        match=r"RandomForestClassifier cannot learn with \{'max_features': 'sqrt', 'max_depth': -",
    ):
        fit(configure(*FOREST, SMALL, "+head.estimator.grid.max_depth=[-1]"))
