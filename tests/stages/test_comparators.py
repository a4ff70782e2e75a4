"""Every comparator through the same door: pairs of features and heads, networks, clusters."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CONF, TINY, Configure, Trained, composed
from helpers.results import result
from helpers.trained_runs import check_predicts_as_tested, write_test_cells
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from hep2.data.fold import Fold, open_fold
from hep2.data.inputs import CellImages
from hep2.errors import HEp2Error
from hep2.evaluation.report import make_report
from hep2.metrics import agreement, match
from hep2.nets.architectures import read_checkpoint
from hep2.nets.dense import DenseDecoder, DenseEncoder
from hep2.nets.lenet import LeNet
from hep2.run import fit
from hep2.rundir.directory import RunDir
from hep2.rundir.layout import run_path
from hep2.stages.checkpoints import CheckpointFiles, Checkpoints
from hep2.stages.classifier import SupervisedStage
from hep2.stages.clustering import ClusteringStage
from hep2.sweep.jobs import plan
from hep2.tasks.clustering import Clustering, sharpened

QUICK = {"dcae_plus_quick"}  # others with an encoder of fewer epochs
FEATURES = sorted({path.stem for path in (CONF / "features").glob("*.yaml")} - QUICK)
HEADS = sorted({path.stem for path in (CONF / "head").glob("*.yaml")} - {"mlp_small", "mlp_means"})
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
SHARED = ("leak_gap", "ensemble", "label_efficiency")  # whose heads are those of other rows
# Every part of the work, none of it at length.
CHEAP = (*TINY, "stage.epochs=1", "stage.batch_size=32")
CHEAP_FEATURES = {
    "codebook": ("features.extractor.words=8", "features.extractor.sample=1000"),
    "pca": ("features.extractor.components=8",),
    "dcae_fisher": tuple(f"features.local.{few}" for few in ("components=4", "gaussians=2")),
}
CHEAP_HEADS = {
    "svm": ("head.estimator.C=[1,10]", "head.estimator.gamma=[1]"),
    "forest": ("head.estimator.classifier.n_estimators=5",),
}
DENSE = ("model=dense_ae", "model.network.widths=[32,16]")
PLUS = ("augment=pose", "model.network.bounded=false")
ENCODERS = {
    **dict.fromkeys(("dcae", "dcae_gradient"), ()),
    "dense_ae": DENSE,
    **dict.fromkeys(
        ("dcae_plus", "dcae_denoising", "dcae_plus_cells", "dcae_plus_own", "dcae_plus_vicreg"),
        PLUS,
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> tuple[str, ...]:
    """Where one autoencoder of every stage is trained already, as overrides."""
    where = (f"runs_dir={tmp_path_factory.mktemp('comparators')}", f"cache_dir={cache_dir}")
    for stage, more in ENCODERS.items():
        fit(composed(*CHEAP, *where, f"stage={stage}", *more))
    return where


@pytest.fixture(scope="module")
def test_cells(fold: Fold, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test cells as files."""
    folder: Path = write_test_cells(fold, tmp_path_factory.mktemp("test_cells"))
    return folder


# --- pairs


@pytest.mark.parametrize(("features", "head"), list(itertools.product(FEATURES, HEADS)))
def test_every_pair_runs(
    features: str, head: str, made: tuple[str, ...], test_cells: Path, tmp_path: Path
) -> None:
    cfg = composed(
        *(CHEAP + made),
        "stage=head",
        f"features={features}",
        f"head={head}",
        *CHEAP_FEATURES.get(features, ()),
        *CHEAP_HEADS.get(head, ()),
        *(DENSE if features == "dense_ae" else ()),
    )
    run = fit(cfg)
    found, rows = result(run), pd.read_csv(run.predictions)
    assert found["method"] == f"{features}-{head}"
    assert run.path.parts[-3] == f"head-{features}-{head}"
    assert found["kind"] == "classification"
    learned = None if features in ("handcrafted", "pixels") else False
    assert found["labels_in_features"] is learned
    assert len(rows) == found["cells"]["test"]
    assert found["metrics"]["specimen/test/aca"] == pytest.approx(
        (rows.target == rows.output).mean()
    )
    assert (found["encoder_seconds"] > 0) is bool(cfg.stage.encoders)
    if head == "chance":
        assert rows.output.nunique() == 1
    if head == "svm":
        assert found["chosen"]["C"] in (1, 10) and found["chosen"]["gamma"] == 1
    check_predicts_as_tested(run, test_cells, tmp_path)


def test_chance_names_the_majority_of_the_training_cells(made: tuple[str, ...], fold: Fold) -> None:
    run = fit(composed(*CHEAP, *made, "experiment=chance", "name=majority"))
    counts = np.bincount(fold.cells.labels[fold.split.train], minlength=5)
    rows = pd.read_csv(run.predictions)
    assert set(rows.output) == {fold.cells.classes[int(counts.argmax())]}


def test_a_head_without_encoder_does_not_read_the_model(made: tuple[str, ...]) -> None:
    words = (*CHEAP, *made, "stage=head", "features=pixels", "head=chance", "name=unread")
    first = fit(composed(*words))
    again = fit(composed(*words, "model=dcae_small", "augment=none"))
    assert first.path == again.path


# --- configurations


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_sweep_of_an_experiment_makes_the_encoders_that_it_needs(experiment: str) -> None:
    cfg, stages = with_sweep(experiment)
    more = {"label_efficiency": ["cnn"]}.get(experiment, [])
    assert [*cfg.stage.encoders, cfg.stage.name, *more] == stages


def with_sweep(experiment: str) -> tuple[DictConfig, list[str]]:
    """An experiment, and the stages of its sweep; its last stage alone where it names none."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"experiment={experiment}"], return_hydra_config=True)
    swept = OmegaConf.select(cfg, "hydra.sweeper.params.stage") or cfg.stage.name
    return cfg, str(swept).split(",")


def test_no_two_experiments_share_a_run_directory() -> None:
    cfgs = [composed(f"experiment={name}") for name in EXPERIMENTS if name not in SHARED]
    methods = [cfg.stage.label for cfg in cfgs]
    assert len(set(methods)) == len(methods)
    assert len({run_path(cfg) for cfg in cfgs}) == len(cfgs)
    assert {
        "dcae-mlp_plain",
        "handcrafted-svm",
        "cnn-lenet-linear",
        "cnn_finetuned-dcae-mlp",
    } < set(methods)


def test_jobs_wait_for_all_their_encoders() -> None:
    def job(stage: str) -> list[str]:
        return ["experiment=dcae_gradient_mlp", f"stage={stage}"]

    words = [job("head"), job("dcae"), job("dcae_gradient"), ["experiment=lenet"]]
    jobs = plan(words, [composed(*given) for given in words])
    assert [set(job.needs) for job in jobs] == [{2, 3}, set(), set(), set()]


def test_one_checkpoint_cannot_be_two_encoders(configure: Configure) -> None:
    cfg = configure("stage=head", "features=dcae_gradient", "encoder=some.ckpt")
    with pytest.raises(HEp2Error, match=r"some\.ckpt is one checkpoint, needed are 2"):
        fit(cfg)


# --- networks


def test_the_dense_autoencoder_has_the_paper_s_equations() -> None:
    network = {"image_size": 8, "widths": [20, 6]}
    encoder, decoder = DenseEncoder(**network), DenseDecoder(**network)
    image = torch.rand(3, 1, 8, 8)
    layers = [module for module in encoder.modules() if isinstance(module, torch.nn.Linear)]
    back = [module for module in decoder.modules() if isinstance(module, torch.nn.Linear)]
    assert [(one.in_features, one.out_features) for one in layers] == [(64, 20), (20, 6)]
    assert [(one.in_features, one.out_features) for one in back] == [(6, 20), (20, 64)]
    y = image.flatten(1)
    for one in layers:
        y = torch.sigmoid(y @ one.weight.T + one.bias)  # equation 1
    assert torch.allclose(encoder(image), y, atol=1e-6) and encoder.latent_size == 6
    z = y
    for one in back:
        z = torch.sigmoid(z @ one.weight.T + one.bias)  # equation 2
    assert torch.allclose(decoder(y), z.view(3, 1, 8, 8), atol=1e-6)
    pointers = {one.weight.data_ptr() for one in (*layers, *back)}
    assert len(pointers) == 4, "W and W' are apart"
    assert not torch.allclose(layers[0].weight, back[-1].weight.T)


def test_a_dense_autoencoder_needs_a_layer() -> None:
    with pytest.raises(HEp2Error, match="at least one layer"):
        DenseEncoder(8, [])


def test_layers_are_pre_trained_one_by_one(configure: Configure) -> None:
    words = (*DENSE, "stage=dense_ae", "stage.epochs=1", "stage.optimizer.lr=1e-3")
    errors = []
    for epochs in (0, 10):
        run = fit(configure(*words, f"stage.pretrain_epochs={epochs}", f"name=p{epochs}"))
        errors.append(result(run)["metrics"]["specimen/test/mse"])
    assert errors[1] < 0.9 * errors[0]


def test_only_dense_layers_can_be_pre_trained(configure: Configure) -> None:
    with pytest.raises(HEp2Error, match="choose model=dense_ae"):
        fit(configure("stage=dcae", "stage.pretrain_epochs=1"))


LENET = {"maps": [8, 24], "kernels": [5, 6], "pools": [4, 3], "pooling": "average", "hidden": 100}
GAO = {"maps": [6, 16, 32], "kernels": [7, 4, 3], "pools": [2, 3, 3], "pooling": "max", "hidden": 9}


def test_lenet_7_has_the_layers_of_its_paper() -> None:
    net = LeNet(96, **LENET)  # the paper's image size
    shapes = [tuple(p.shape) for p in net.parameters() if p.ndim > 1]
    assert shapes == [(8, 1, 5, 5), (24, 8, 6, 6), (100, 24 * 6 * 6)]
    sides = []
    value = torch.rand(2, 1, 96, 96)
    for layer in net.levels:
        value = layer(value)
        if value.ndim == 4:
            sides.append(value.shape[-1])
    assert sides == [96, 92, 92, 23, 18, 18, 6]
    assert value.shape == (2, 100) and net.latent_size == 100


def test_the_network_of_gao_fits_its_paper_s_images_and_ours() -> None:
    for size, side in ((78, 3), (64, 2)):
        net = LeNet(size, **GAO)
        assert net(torch.rand(2, 1, size, size)).shape == (2, 9)
        assert tuple(net.levels[-2].weight.shape) == (9, 32 * side**2)
    assert sum(isinstance(layer, torch.nn.MaxPool2d) for layer in net.levels) == 3


@pytest.mark.parametrize(
    ("size", "change", "named"),
    [
        (12, {}, "data.image_size=12 is too small"),
        (64, {"pooling": "sum"}, "one of average, max"),
    ],
)
def test_a_network_that_cannot_be_built(size: int, change: dict[str, Any], named: str) -> None:
    with pytest.raises(HEp2Error, match=named):
        LeNet(size, **(LENET | change))


# --- supervised networks


@pytest.mark.parametrize(
    ("encoder", "stage", "view"),
    [("dcae", "cnn_finetuned", "intensity"), ("dcae_plus", "cnn_plus", "standardised")],
)
def test_fine_tuning_starts_from_the_fold_s_own_encoder(
    made: tuple[str, ...], fold: Fold, encoder: str, stage: str, view: str
) -> None:
    words = (*CHEAP, *made, "head=mlp", "model.network.bounded=false", "augment=none")
    first = composed(*words, f"stage={encoder}", f"name=before_{stage}")
    stored = read_checkpoint(fit(first).last)["state_dict"]
    cfg = composed(*words, f"stage={stage}", f"name=before_{stage}")
    started = SupervisedStage(cfg, fold, RunDir(run_path(cfg)))
    task = started.task
    assert task.encoder is not None
    assert started.start is not None and started.start.view == view == task.hparams["view"]
    assert all(
        torch.equal(value, stored[f"encoder.{name}"])
        for name, value in task.encoder.state_dict().items()
    )
    assert all(parameter.requires_grad for parameter in task.parameters())
    scratch = SupervisedStage(composed(*words, "stage=cnn"), fold, RunDir(run_path(cfg))).task
    assert not torch.equal(
        scratch.state_dict()["encoder.levels.0.weight"], stored["encoder.levels.0.weight"]
    )


def test_the_row_cnn_plus_starts_from_the_encoder_of_dcae_plus() -> None:
    """A row's settings go to all of its stages: none of the network's may change the encoder."""
    own, shared = (
        composed(f"experiment={row}", "stage=dcae_plus") for row in ("cnn_plus", "dcae_plus")
    )
    for group in ("stage", "model", "augment", "data", "protocol", "trainer"):
        assert own[group] == shared[group], group
    fresh, started = (composed(f"experiment={row}") for row in ("cnn", "cnn_plus"))
    assert started.stage.optimizer == fresh.stage.optimizer
    assert started.stage.epochs == fresh.stage.epochs


def test_fine_tuning_refuses_the_encoder_of_another_fold(made: tuple[str, ...]) -> None:
    words = (*CHEAP, *made)
    path = RunDir(run_path(composed(*words, "stage=dcae"))).last
    with pytest.raises(HEp2Error, match="fold is 0, not 1"):
        fit(composed(*words, "stage=cnn_finetuned", "fold=1", f"encoder={path}"))
    with pytest.raises(HEp2Error, match="needs the encoder of fold 1"):
        fit(composed(*words, "stage=cnn_finetuned", "fold=1"))


def test_supervision_moves_the_encoder_and_is_told(
    made: tuple[str, ...], test_cells: Path, tmp_path: Path
) -> None:
    words = (*CHEAP, *made, "head=linear", "stage=cnn_finetuned")
    run = fit(composed(*words))
    check_predicts_as_tested(run, test_cells, tmp_path)
    found = result(run)
    assert (found["method"], found["kind"]) == ("cnn_finetuned-dcae-linear", "classification")
    assert found["labels_in_features"] is True
    assert run.path.parts[-3] == "cnn_finetuned-dcae-linear"
    before = read_checkpoint(RunDir(run_path(composed(*CHEAP, *made, "stage=dcae"))).last)
    after = read_checkpoint(run.last)["state_dict"]
    name = "encoder.levels.0.weight"
    assert not torch.equal(before["state_dict"][name], after[name])
    # Its features, taken by another head, are features learned with labels.
    head = fit(composed(*CHEAP, *made, "stage=head", "name=of_cnn", f"encoder={run.last}"))
    assert result(head)["labels_in_features"] is True


def test_supervised_networks_are_chosen_by_their_mca(made: tuple[str, ...]) -> None:
    words = ("stage=cnn", "head=linear", "stage.epochs=6", "stage.optimizer.lr=1e-2", "name=chosen")
    run = fit(composed(*CHEAP, *made, *words))
    rows = pd.read_csv(run.path / "metrics.csv").dropna(subset=["val/loss"])
    best = rows.loc[rows["val/specimen/mca"].idxmax()]  # the first of the greatest
    assert read_checkpoint(run.best)["epoch"] == int(best.epoch)


def test_the_greatest_figure_is_the_best(tmp_path: Path) -> None:
    keeper = Checkpoints(tmp_path, CheckpointFiles(), "x", greatest=True)
    chosen = [
        keeper._is_best(SimpleNamespace(callback_metrics={"x": torch.tensor(x)}))  # type: ignore[arg-type]
        for x in (0.2, 0.5, 0.4, 0.5, float("nan"), 0.6)
    ]
    assert chosen == [True, True, False, False, False, True]


def test_a_head_that_is_no_network_cannot_train_one(configure: Configure) -> None:
    with pytest.raises(HEp2Error, match="head=svm is not: choose head=mlp"):
        fit(configure("stage=cnn", "head=svm", "stage.epochs=1"))


# --- gradients


def test_the_second_autoencoder_sees_gradients(made: tuple[str, ...], fold: Fold) -> None:
    cfg = composed(*CHEAP, *made, "stage=dcae_gradient")
    hparams = read_checkpoint(RunDir(run_path(cfg)).last)["hyper_parameters"]
    assert hparams["view"] == "gradient"
    cells = fold.split.train[:4]
    plain = CellImages(fold.cells).gather(cells, epoch=None)
    seen = CellImages(fold.cells, view="gradient").gather(cells, epoch=None)
    flat = torch.full_like(plain, 0.5)
    view = CellImages(fold.cells, view="gradient").view
    assert torch.equal(seen, view(plain)) and view(flat).abs().max() == 0
    with pytest.raises(HEp2Error, match="intensity, gradient"):
        CellImages(fold.cells, view="laplacian")


# --- clusters


@pytest.mark.parametrize("seed", range(5))
def test_the_matching_of_clusters_is_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets, clusters = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    every = {
        named: float((np.array(named)[clusters] == targets).mean())
        for named in itertools.permutations(range(4))
    }
    found = match(targets, clusters, 4)
    assert found.accuracy == pytest.approx(max(every.values()))
    assert every[tuple(found.patterns.tolist())] == pytest.approx(found.accuracy)


def test_clusters_that_are_the_patterns_agree_wholly() -> None:
    targets = np.array([0, 0, 1, 2, 2, 2])
    renamed = np.array([2, 0, 1])[targets]
    assert match(targets, renamed, 3).accuracy == 1
    assert agreement(targets, renamed) == pytest.approx({"nmi": 1, "ari": 1})


@pytest.fixture
def layer(
    trained: Trained, configure: Configure, fold: Fold, tmp_path: Path
) -> tuple[Clustering, CellImages]:
    """A clustering layer before its training."""
    cfg = configure("stage=clustering", f"encoder={trained.dcae.best}")
    stage = ClusteringStage(cfg, fold, RunDir(tmp_path))
    return stage.task, stage.inputs


def test_assignments_are_student_s_and_targets_sharpen_them(
    layer: tuple[Clustering, CellImages],
) -> None:
    task, _ = layer
    with torch.no_grad():
        latent = task.centres[:2] + 0.1
        shares = task.assign(latent).numpy()
        centres, scale = task.centres.numpy(), float(task.scale)
    squares = ((latent.numpy()[:, None] - centres) ** 2).sum(axis=2) / scale
    expected = (1 / (1 + squares)) / (1 / (1 + squares)).sum(axis=1, keepdims=True)
    assert np.allclose(shares, expected, atol=1e-4)
    q = np.array([[0.6, 0.4], [0.9, 0.1], [0.5, 0.5]])
    p = q**2 / q.sum(axis=0)
    found = sharpened(torch.from_numpy(q)).numpy()
    assert np.allclose(found, p / p.sum(axis=1, keepdims=True))


def test_centres_start_where_k_means_finds_them(
    layer: tuple[Clustering, CellImages], fold: Fold
) -> None:
    task, inputs = layer
    train = fold.split.train
    with torch.no_grad():
        latents = task.eval().encoder(inputs.gather(train, epoch=None)).numpy()
    nearest = ((latents[:, None] - task.centres.detach().numpy()) ** 2).sum(axis=2)
    own = nearest.argmin(axis=1)
    for cluster in range(5):  # k-means: a centre is the mean of its own cells
        assert np.allclose(
            latents[own == cluster].mean(axis=0), task.centres[cluster].detach(), atol=1e-3
        )
    assert float(task.scale) == pytest.approx(nearest.min(axis=1).mean(), rel=1e-3)


def test_the_clustering_loss_reads_no_label(
    layer: tuple[Clustering, CellImages], fold: Fold
) -> None:
    task, inputs = layer
    train = fold.split.train
    task.targets = torch.full((len(fold.cells), 5), 0.2)
    batch = {"image": inputs.gather(train[:8], None), "index": torch.from_numpy(train[:8])}
    task.log_dict = lambda *given, **named: None  # type: ignore[method-assign,assignment]
    task.eval()
    losses = [task.training_step(batch | {"label": torch.full((8,), k)}, 0) for k in (0, 3)]
    assert torch.equal(*losses)


def test_clusters_stand_in_a_table_of_their_own(made: tuple[str, ...], tmp_path: Path) -> None:
    words = (*CHEAP, *made, "name=clusters")
    with pytest.raises(HEp2Error, match="train it first: python train"):
        fit(composed(*words, "stage=clustering"))
    fit(composed(*words, "stage=dcae"))
    run = fit(composed(*words, "stage=clustering"))
    found, rows = result(run), pd.read_csv(run.predictions)
    assert found["kind"] == "clustering" and "recall" not in found
    assert found["labels_in_features"] is False
    names = {key.rpartition("/")[2] for key in found["metrics"]}
    assert names == {"clustering_accuracy", "accuracy_matched_in_training", "nmi", "ari"}
    cells = open_fold(composed(*words)).cells
    clusters = np.array([cells.classes.index(output) for output in rows.output])
    targets = np.array([cells.classes.index(target) for target in rows.target])
    figures = found["metrics"]
    assert figures["specimen/test/clustering_accuracy"] == match(targets, clusters, 5).accuracy
    matched = float((rows.target == rows.output).mean())
    assert figures["specimen/test/accuracy_matched_in_training"] == pytest.approx(matched)
    runs_dir = run.path.parents[4]
    fit(composed(*words, "stage=head", "features=pixels", "head=chance"))
    report = make_report("clusters", runs_dir, tmp_path)
    ranked, clusters_table = report.tables[0], report.tables[-1]
    assert [row[1] for row in ranked.rows] == ["pixels-chance"]
    assert [row[0] for row in clusters_table.rows] == ["clustering-dcae"]
    assert "UNSUPERVISED" in clusters_table.caption and "1 of 5" in clusters_table.rows[0][-1]
    accuracy = 100 * figures["specimen/test/clustering_accuracy"]
    assert clusters_table.rows[0][1] == f"{accuracy:.2f}"
