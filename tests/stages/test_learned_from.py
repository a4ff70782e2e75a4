"""Weights that are tested have learned from all training specimens, and from no test specimen."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import CHOOSING, TINY_DATA, Configure, composed
from hydra.errors import InstantiationException
from numpy.typing import NDArray

from hep2.data.fold import Fold, open_fold
from hep2.errors import HEp2Error
from hep2.heads.svm import SVM
from hep2.nets.architectures import read_checkpoint
from hep2.run import fit
from hep2.rundir.directory import RunDir
from hep2.rundir.layout import pool_of
from hep2.rundir.result import read_result
from hep2.sweep.jobs import plan
from hep2.tasks.classification import Classification
from hep2.tasks.reconstruction import Reconstruction

DEFAULT = ("protocol.validation=0", "stage.epochs=2")
POOL = (*DEFAULT, "protocol=published", "++stage.learn_from=pool")


def specimens(fold: Fold, cells: NDArray[np.int64]) -> set[str]:
    return set(fold.cells.specimens[cells])


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Positions of the cells in the training batches of what follows."""
    cells: set[int] = set()

    def spied(task: Any) -> None:
        step = task.training_step

        def training_step(self: Any, batch: dict[str, torch.Tensor], number: int) -> torch.Tensor:
            cells.update(batch["index"].tolist())
            loss: torch.Tensor = step(self, batch, number)
            return loss

        monkeypatch.setattr(task, "training_step", training_step)

    spied(Reconstruction)
    spied(Classification)
    return cells


@pytest.mark.parametrize("stage", ["dcae", "cnn"])
def test_a_network_learns_from_every_training_specimen_and_no_other(
    stage: str, seen: set[int], configure: Configure
) -> None:
    cfg = configure(f"stage={stage}", *DEFAULT, "++stage.learn_from=training")
    fit(cfg)
    fold = open_fold(cfg)
    outside = set(fold.cells.specimens) - specimens(fold, fold.split.test)
    assert specimens(fold, np.array(sorted(seen))) == outside


def test_so_do_heads_that_are_not_networks(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = configure("stage=head", "features=pixels", "head=svm", *DEFAULT)
    fold = open_fold(cfg)
    fitted: list[int] = []
    fit_svm = SVM.fit

    def spied(self: SVM, cells: Any) -> None:
        fitted.append(len(cells.labels))
        fit_svm(self, cells)

    monkeypatch.setattr(SVM, "fit", spied)
    fit(cfg)
    test = specimens(fold, fold.split.test)
    everyone = int(np.isin(fold.cells.specimens, list(test), invert=True).sum())
    tested, *to_calibrate = fitted
    assert tested == everyone and sum(everyone - count for count in to_calibrate) == everyone


@pytest.mark.parametrize("protocol", ["published", "specimen", "loso", "random"])
def test_an_encoder_may_learn_from_every_cell_without_a_test_specimen(
    protocol: str, configure: Configure
) -> None:
    cfg = configure(f"protocol={protocol}", "++stage.learn_from=pool")
    fold, cells = open_fold(cfg), open_fold(cfg).cells
    everyone = np.arange(len(cells))
    wanted = {
        "published": everyone[cells.pools == "train"],
        "random": np.setdiff1d(everyone, fold.split.test),
    }.get(protocol, everyone[~np.isin(cells.specimens, cells.specimens[fold.split.test])])
    assert np.array_equal(fold.split.train, wanted) and not len(fold.split.val)
    if protocol != "random":
        assert not specimens(fold, fold.split.train) & specimens(fold, fold.split.test)


def test_folds_of_one_pool_share_an_encoder(seen: set[int], configure: Configure) -> None:
    first = fit(configure("stage=dcae", *POOL))
    assert len(seen) == open_fold(configure(*POOL)).split.train.size
    seen.clear()
    second = fit(configure("stage=dcae", *POOL, "fold=1"))
    assert not seen  # nothing was trained
    one, two = (read_checkpoint(run.last)["state_dict"] for run in (first, second))
    assert all(torch.equal(one[name], two[name]) for name in one)
    scores = [read_result(run.result)["metrics"]["published/test/mse"] for run in (first, second)]
    assert scores[0] != scores[1]  # each of its own test cells
    assert read_result(second.result)["epochs"] == 2
    head = fit(configure("stage=head", *POOL, "fold=1"))
    assert "recall" in read_result(head.result)


def test_other_settings_are_trained(seen: set[int], configure: Configure) -> None:
    fit(configure("stage=dcae", *POOL))
    seen.clear()
    fit(configure("stage=dcae", *POOL, "fold=1", "stage.optimizer.lr=2e-3"))
    assert seen


def test_an_encoder_of_another_pool_is_refused(configure: Configure) -> None:
    fit(configure("stage=dcae", *DEFAULT, "++stage.learn_from=pool"))
    other = RunDir(Path(configure().runs_dir) / "default/synthetic-specimen/dcae-dcae/fold0/seed0")
    with pytest.raises(HEp2Error, match=r"belongs to another experiment .*pool is"):
        fit(configure("stage=head", *DEFAULT, "fold=1", f"encoder={other.last}"))
    with pytest.raises(HEp2Error, match=r"belongs to another experiment .*protocol is"):
        fit(configure("stage=head", *POOL, f"encoder={other.last}"))


def test_in_a_sweep_the_other_folds_wait_for_the_first(configure: Configure) -> None:
    folds = (0, 1, 2)
    encoders = [("stage=dcae", f"fold={k}", *POOL) for k in folds]
    words = [*encoders, *[("stage=head", f"fold={k}", "protocol=published") for k in folds]]
    jobs = plan(words, [configure(*each) for each in words])
    assert [job.needs for job in jobs] == [(), (1,), (1,), (1,), (2,), (3,)]
    alone = [(*each, "++stage.learn_from=training") for each in encoders]
    assert [job.needs for job in plan(alone, [configure(*each) for each in alone])] == [()] * 3
    assert pool_of(configure(*POOL)) == pool_of(configure(*POOL, "fold=2"))
    assert pool_of(configure(*POOL, "protocol=specimen")) is None


def test_a_choice_that_does_not_exist_is_named(configure: Configure) -> None:
    with pytest.raises(HEp2Error, match="learn_from=all is unknown: choose training or pool"):
        open_fold(configure("stage.learn_from=all"))


@pytest.fixture
def more(tmp_path: Path) -> Path:
    """A CSV of ten cells without labels; two are of a specimen that fold 0 tests."""
    fold = open_fold(composed(*TINY_DATA, *CHOOSING, f"cache_dir={tmp_path}"))
    tested = fold.cells.specimens[fold.split.test[0]]
    lines = ["image,specimen"]
    for number in range(10):
        image = np.random.default_rng(number).integers(0, 200, (64, 64)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
        lines.append(f"{number}.png,{tested if number < 2 else ''}")
    (tmp_path / "more.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "more.csv"


def test_more_cells_without_labels_are_learned_from(
    more: Path, seen: set[int], configure: Configure
) -> None:
    words = (*DEFAULT, f"data.unlabelled={more}")
    encoder = fit(configure("stage=dcae", *words, "++stage.learn_from=pool", "stage.epochs=4"))
    fold = open_fold(configure(*words, "++stage.learn_from=pool"))
    assert len(fold.split.train) == len(fold.split.unlabelled) + 8  # none of a test specimen
    assert seen == set(fold.split.train.tolist())
    name = "unlabelled/7.png"
    place = fold.cells.ids.tolist().index(name)
    assert np.array_equal(fold.cells.images[place, 0], cv2.imread(str(more.parent / "7.png"), 0))
    assert read_result(encoder.result)["cells"]["train"] == len(fold.split.train)
    assert "recall" in read_result(fit(configure("stage=head", *words)).result)
    with pytest.raises(HEp2Error, match="belongs to another experiment"):
        fit(configure("stage=head", *DEFAULT, f"encoder={encoder.last}", "name=other"))


def test_more_cells_that_are_not_there_are_named(tmp_path: Path, configure: Configure) -> None:
    with pytest.raises(
        InstantiationException, match=r"data\.unlabelled=nowhere: no such folder or CSV"
    ):
        open_fold(configure("data.unlabelled=nowhere"))
    with pytest.raises(InstantiationException, match="no image in it"):
        open_fold(configure(f"data.unlabelled={tmp_path}"))
