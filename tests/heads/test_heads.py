"""Heads that are not networks: against scikit-learn and a general solver."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from hep2.data.fold import Fold
from hep2.errors import HEp2Error
from hep2.heads.estimator import InnerFolds, TrainingCells, inner_folds
from hep2.heads.nearest_convex_hull import NearestConvexHull, shares_of, squared_distances
from hep2.heads.neighbours import MajorityClass, NearestNeighbours
from hep2.heads.svm import SVM

CLASSES = 4


def blobs(seed: int, cells: int = 90, spread: float = 1.4) -> TrainingCells:
    """Cells of three of four patterns around their own centres, features of unlike scales."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(cells) % 3)
    centres = np.random.default_rng(99).normal(size=(3, 5)) * 2
    features = centres[labels] + spread * rng.normal(size=(cells, 5))
    features[:, 0] *= 1000
    groups = np.arange(cells) % 3
    folds: InnerFolds = [(np.flatnonzero(groups != g), np.flatnonzero(groups == g)) for g in (0, 1)]
    return TrainingCells(features.astype(np.float32), labels, CLASSES, folds)


def rows_sum_to_one(shares: NDArray[np.float64]) -> bool:
    return bool(np.allclose(shares.sum(axis=1), 1) and (shares >= 0).all())


# --- nearest convex hull


def reference_distance(query: NDArray[np.float64], points: NDArray[np.float64]) -> float:
    """Squared distance to a convex hull by a general solver (SLSQP)."""
    count = len(points)
    found = minimize(
        lambda w: ((w @ points - query) ** 2).sum(),
        np.full(count, 1 / count),
        jac=lambda w: 2 * points @ (w @ points - query),
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(count)},
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-14},
    )
    return float(found.fun)


@pytest.mark.parametrize(("count", "size"), [(1, 3), (2, 1), (5, 12), (20, 3), (30, 8), (90, 4)])
def test_distances_to_a_hull_are_a_general_solver_s(count: int, size: int) -> None:
    rng = np.random.default_rng(count * size)
    points, queries = rng.normal(size=(count, size)), 1.5 * rng.normal(size=(6, size))
    expected = [reference_distance(query, points) for query in queries]
    assert squared_distances(queries, points) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_distances_of_cells_far_away_and_of_tiny_features() -> None:
    rng = np.random.default_rng(0)
    points, queries = rng.normal(size=(20, 3)), rng.normal(size=(5, 3))
    near = squared_distances(queries, points)
    assert squared_distances(1e-4 * queries, 1e-4 * points) == pytest.approx(1e-8 * near, rel=1e-6)
    assert squared_distances(1e4 + queries, 1e4 + points) == pytest.approx(near, rel=1e-6)
    far = np.array([[1e4, 0, 0]])
    corner = points[points[:, 0].argmax()]
    assert squared_distances(far, points) == pytest.approx(((far - corner) ** 2).sum(), rel=1e-6)


@pytest.mark.parametrize(("count", "size"), [(200, 3), (6, 40), (300, 20)])
def test_a_cell_inside_a_hull_has_no_distance(count: int, size: int) -> None:
    rng = np.random.default_rng(size)
    points = rng.normal(size=(count, size))
    inside = rng.dirichlet(np.ones(count), 5) @ points
    assert squared_distances(np.vstack([inside, points[:2]]), points) == pytest.approx(0, abs=1e-12)


def test_the_nearest_hull_wins_not_the_nearest_mean() -> None:
    long = np.array([[0, 0], [10, 0.0]])  # a segment whose mean is far from its end
    short = np.array([[0, 2], [1, 2], [0.5, 3]])
    features = np.vstack([long, short]).astype(np.float32)
    head = NearestConvexHull()
    head.fit(TrainingCells(features, np.array([1, 1, 3, 3, 3]), CLASSES))
    shares = head.probabilities(np.array([[0.5, 0.9], [0.5, 1.2]], dtype=np.float32))
    assert shares.argmax(axis=1).tolist() == [1, 3]
    assert shares[0, [1, 3]] == pytest.approx([1.1**2 / (0.9**2 + 1.1**2), 0.9**2 / 2.02], rel=1e-4)
    assert rows_sum_to_one(shares) and not shares[:, [0, 2]].any()


def test_where_hulls_overlap_the_nearest_mean_decides() -> None:
    rng = np.random.default_rng(1)
    square = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1.0]])
    features = np.vstack([square, square + np.array([0.5, 0]), square + 9 + rng.random((4, 2))])
    head = NearestConvexHull()
    head.fit(TrainingCells(features.astype(np.float32), np.repeat([0, 1, 2], 4), CLASSES))
    shares = head.probabilities(np.array([[0.1, 0], [0.4, 0], [-0.9, 0]], dtype=np.float32))
    assert shares.argmax(axis=1).tolist() == [0, 1, 0]
    assert shares[0, [0, 1]] == pytest.approx([0.16 / 0.17, 0.01 / 0.17], rel=1e-4)
    assert shares[2].tolist() == [1, 0, 0, 0]  # inside one hull alone


def test_shares_of_absent_and_of_certain_patterns() -> None:
    inf = np.inf
    squares = np.array([[1.0, 3.0, inf], [0.0, 3.0, inf], [0.0, 0.0, inf]])
    means = np.array([[9.0, 9.0, inf], [9.0, 9.0, inf], [0.0, 1.0, inf]])
    assert np.allclose(shares_of(squares, means), [[0.75, 0.25, 0], [1, 0, 0], [1, 0, 0]])


# --- support vectors


def reference_svm(cells: TrainingCells, rows: NDArray[np.int64], C: float, gamma: float) -> SVC:
    machine = SVC(C=C, gamma=gamma / cells.features.shape[1], break_ties=True)
    return machine.fit(cells.features[rows], cells.labels[rows])


def test_the_svm_is_scikit_learn_s() -> None:
    cells, test = blobs(0), blobs(1)
    head = SVM(C=[3.0], gamma=[2.0])
    head.fit(cells)
    scaler = StandardScaler().fit(cells.features)
    machine = SVC(C=3.0, gamma=2.0 / 5, break_ties=True)
    machine.fit(scaler.transform(cells.features), cells.labels)
    shares = head.probabilities(test.features)
    queries = scaler.transform(test.features)
    assert np.array_equal(shares.argmax(axis=1), machine.predict(queries))
    values = machine.decision_function(queries) / head.chosen["temperature"]
    powers = np.exp(values)
    assert np.allclose(shares[:, :3], powers / powers.sum(axis=1, keepdims=True), atol=1e-3)
    assert rows_sum_to_one(shares) and not shares[:, 3].any()


def test_c_and_gamma_are_those_that_are_best_on_the_inner_folds() -> None:
    cells = blobs(2, spread=2.5)
    standard = replace(
        cells,
        features=StandardScaler().fit_transform(cells.features).astype(np.float32),
    )
    grid = [(C, gamma) for C in (0.01, 1.0, 100.0) for gamma in (0.1, 1.0, 10.0)]
    scores = {}
    for C, gamma in grid:
        scores[C, gamma] = np.mean(
            [
                balanced_accuracy_score(
                    cells.labels[held],
                    reference_svm(standard, learn, C, gamma).predict(standard.features[held]),
                )
                for learn, held in cells.folds
            ]
        )
    head = SVM(C=[0.01, 1.0, 100.0], gamma=[0.1, 1.0, 10.0])
    head.fit(cells)
    assert len({round(score, 6) for score in scores.values()}) > 3
    assert head.chosen["inner_mca"] == pytest.approx(max(scores.values()))
    assert scores[head.chosen["C"], head.chosen["gamma"]] == pytest.approx(max(scores.values()))


def test_the_temperature_makes_held_out_cells_likely() -> None:
    cells = blobs(3, cells=300, spread=3.0)
    head = SVM(C=[1.0], gamma=[1.0])
    head.fit(cells)
    test = blobs(4, cells=300, spread=3.0)

    def cross_entropy(temperature: float) -> float:
        head.temperature = temperature
        shares = head.probabilities(test.features)
        return float(-np.log(shares[np.arange(300), test.labels]).mean())

    chosen = head.chosen["temperature"]
    assert cross_entropy(chosen) < min(cross_entropy(chosen / 4), cross_entropy(chosen * 4))


@pytest.mark.parametrize("labels", [[1] * 8, [1] * 4 + [3] * 4])
def test_one_or_two_patterns_are_enough(labels: list[int]) -> None:
    features = np.arange(16, dtype=np.float32).reshape(8, 2)
    cells = TrainingCells(features, np.array(labels), CLASSES)
    for head in (SVM([1.0], [1.0]), NearestNeighbours([3], ["euclidean"]), NearestConvexHull()):
        head.fit(cells)
        shares = head.probabilities(features)
        assert shares.argmax(axis=1).tolist() == labels
        assert rows_sum_to_one(shares) and shares.shape == (8, CLASSES)


# --- neighbours and chance


def test_the_neighbours_are_scikit_learn_s() -> None:
    cells, test = blobs(5, spread=2.5), blobs(6)
    head = NearestNeighbours(k=[1, 5, 25], metric=["euclidean", "cosine"])
    head.fit(cells)
    scores = {}
    for k in (1, 5, 25):
        for metric in ("euclidean", "cosine"):
            made = [
                make_pipeline(
                    StandardScaler(), KNeighborsClassifier(k, weights="distance", metric=metric)
                )
                .fit(cells.features[learn], cells.labels[learn])
                .predict(cells.features[held])
                for learn, held in cells.folds
            ]
            scores[k, metric] = np.mean(
                [
                    balanced_accuracy_score(cells.labels[held], outputs)
                    for (_, held), outputs in zip(cells.folds, made, strict=True)
                ]
            )
    best = max(scores.values())
    assert scores[head.chosen["k"], head.chosen["metric"]] == pytest.approx(best)
    model = make_pipeline(
        StandardScaler(),
        KNeighborsClassifier(head.chosen["k"], weights="distance", metric=head.chosen["metric"]),
    ).fit(cells.features, cells.labels)
    shares = head.probabilities(test.features)
    assert np.allclose(shares[:, :3], model.predict_proba(test.features))
    assert rows_sum_to_one(shares)


def test_chance_is_the_majority_class_of_training() -> None:
    labels = np.array([2, 0, 2, 1, 2, 0])
    head = MajorityClass()
    head.fit(TrainingCells(np.zeros((6, 3), np.float32), labels, CLASSES))
    shares = head.probabilities(np.random.default_rng(0).random((4, 3), dtype=np.float32))
    assert np.allclose(shares, [[2 / 6, 1 / 6, 3 / 6, 0]] * 4)


# --- inner folds


def test_inner_folds_hold_out_whole_training_specimens(fold: Fold) -> None:
    folds = inner_folds(fold, 3)
    specimens = fold.cells.specimens[fold.split.train]
    assert len(folds) == 3
    held = np.concatenate([rows for _, rows in folds])
    assert np.array_equal(np.sort(held), np.arange(len(fold.split.train)))
    for learning, rows in folds:
        assert not set(specimens[learning]) & set(specimens[rows])
        assert len(learning) + len(rows) == len(fold.split.train)


def test_inner_folds_of_a_leaky_protocol_hold_out_cells(fold: Fold) -> None:
    split = fold.split
    leaky = replace(fold, split=replace(split, leaky=True))
    specimens = fold.cells.specimens[split.train]
    learning, rows = inner_folds(leaky, 3)[0]
    assert set(specimens[learning]) & set(specimens[rows])


def test_a_single_specimen_leaves_no_inner_fold(fold: Fold) -> None:
    names = np.full(len(fold.cells), "one")
    assert inner_folds(replace(fold, cells=replace(fold.cells, specimens=names)), 3) == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SVM(3, [1.0]), "estimator.C=3 must be a list of numbers above 0"),
        (lambda: SVM([], [1.0]), r"estimator.C=\[\] must be a list of numbers"),
        (lambda: SVM([1.0], ["scale"]), r"estimator.gamma=\['scale'\] must be a list of numbers"),
        (lambda: SVM([1.0, 0], [1.0]), r"estimator.C=\[1.0, 0\] must be a list of numbers above 0"),
        (lambda: SVM([True], [1.0]), r"estimator.C=\[True\] must be a list of numbers"),
        (lambda: NearestNeighbours([0], ["l2"]), r"k=\[0\] must be a list of whole numbers, 1 or"),
        (lambda: NearestNeighbours([1.5], ["l2"]), r"k=\[1.5\] must be a list of whole numbers"),
        (lambda: NearestNeighbours(5, ["l2"]), "k=5 must be a list of whole numbers"),
        (lambda: NearestNeighbours([5], "l2"), "metric=l2 must be a list of braycurtis"),
        (lambda: NearestNeighbours([5], ["near"]), r"metric=\['near'\] must be a list of brayc"),
    ],
)
def test_candidates_that_cannot_be_are_one_sentence(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(HEp2Error, match=said):
        make()


def test_without_a_candidate_there_is_nothing_to_choose() -> None:
    with pytest.raises(HEp2Error, match=r"head\.estimator\.k is empty: give one value or more"):
        NearestNeighbours([], ["l2"]).fit(blobs(0))


@pytest.mark.parametrize("count", ["many", None, -1, 1.5])
def test_a_number_of_inner_folds_is_whole(count: Any, fold: Fold) -> None:
    with pytest.raises(HEp2Error, match=f"stage.inner_folds={count} must be a whole number"):
        inner_folds(fold, count)
