import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import CONF, composed
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from hep2.config import TrainConfig

OPTIONS = sorted(f"{path.parent.relative_to(CONF)}={path.stem}" for path in CONF.glob("*/*.yaml"))
GROUPS = sorted({option.partition("=")[0] for option in OPTIONS} - {"hydra"})


def leaves(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return [leaf for value in node.values() for leaf in leaves(value)]
    if isinstance(node, list):
        return [leaf for value in node for leaf in leaves(value)]
    return [node]


def resolved(cfg: DictConfig) -> Any:
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


def test_all_groups_are_covered() -> None:
    assert len(OPTIONS) >= 24
    assert {"stage", "data", "protocol", "model", "experiment", "debug"} <= set(GROUPS)


@pytest.mark.parametrize("option", [option for option in OPTIONS if "/" not in option])
def test_every_option_composes_without_a_gap_or_an_interpolation_left(option: str) -> None:
    cfg = resolved(composed(option))
    assert set(cfg) == {field for field in TrainConfig.__dataclass_fields__ if field in cfg}
    text = [leaf for leaf in leaves(cfg) if isinstance(leaf, str)]
    assert not [leaf for leaf in text if "${" in leaf or leaf == "???"]
    group, _, name = option.partition("=")
    if group in ("stage", "data", "protocol", "augment", "model", "features", "head"):
        assert cfg[group]["name"] == name  # the name that runs and figures carry


@pytest.mark.parametrize("protocol", [o for o in OPTIONS if o.startswith("protocol=")])
def test_protocols_name_makers(protocol: str) -> None:
    from hep2.data.protocols import PROTOCOLS

    assert composed(protocol).protocol.name in PROTOCOLS


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.startswith(("callbacks", "logger"))])
def test_callbacks_and_loggers_instantiate(option: str) -> None:
    group, _, _ = option.partition("=")
    made = instantiate(composed(option)[group], _convert_="all")
    assert isinstance(made, dict) and all(not isinstance(m, DictConfig) for m in made.values())


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda p: p.stem)
def test_files_are_short(path: Path) -> None:
    if path.parent.parent == CONF:
        assert len(path.read_text().splitlines()) <= 25


def test_interpolations_are_few_and_point_to_the_top() -> None:
    files = {path: path.read_text() for path in CONF.rglob("*.yaml")}
    assert not [path for path, text in files.items() if "${oc." in text or "_partial_" in text]


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """The project's configuration, with one number set in every layer."""
    copy = Path(shutil.copytree(CONF, tmp_path / "conf"))
    for group, value in (("experiment", 73), ("debug", 74)):
        text = f"# @package _global_\nstage:\n  epochs: {value}\n"
        (copy / group / "layer.yaml").write_text(text)
    return copy


def test_the_order_of_authority_is_the_one_written_down(conf: Path) -> None:
    assert "groups < this file" in (CONF / "train.yaml").read_text()
    assert composed(conf=conf).stage.epochs == 10  # the group's
    main = conf / "train.yaml"
    main.write_text(main.read_text() + "\nstage:\n  epochs: 72\n")
    words = ["experiment=layer", "debug=layer", "stage.epochs=75"]
    found = [composed(*words[:count], conf=conf).stage.epochs for count in range(4)]
    assert found == [72, 73, 74, 75]
    assert composed("stage=head", conf=conf).stage.epochs == 72
    # The order of words changes nothing.
    assert composed("debug=layer", "experiment=layer", conf=conf).stage.epochs == 74


def test_a_choice_on_the_command_line_beats_an_experiments_choice() -> None:
    assert composed("experiment=dcae_mlp").stage.name == "head_plain"
    assert composed("experiment=dcae_mlp", "stage=dcae").stage.name == "dcae"
    assert composed("experiment=dcae_mlp", "model=dcae_small").model.name == "dcae_small"


@pytest.mark.parametrize(
    "wrong", ["flod=1", "fold=abc", "seed=1.5", "overwrite=maybe", "stage.epoch=1"]
)
def test_misspelt_keys_and_wrong_types_are_refused(wrong: str) -> None:
    with pytest.raises(HydraException):
        composed(wrong)


@pytest.mark.parametrize("key", ["fold", "seed"])
def test_nought_and_null_are_values(key: str) -> None:
    assert composed(f"{key}=0")[key] == 0
    assert composed("encoder=null").encoder is None


def test_the_trainer_has_as_many_epochs_as_the_stage() -> None:
    cfg = resolved(composed("stage.epochs=12"))
    assert cfg["trainer"]["max_epochs"] == 12
    assert cfg["model"]["network"]["image_size"] == 64
    assert resolved(composed("data.image_size=32"))["model"]["network"]["image_size"] == 32


def test_components_get_plain_containers() -> None:
    from hep2.config import plain

    cfg = composed()
    for node in (cfg.model.network, cfg.stage.optimizer, cfg.head, cfg):
        found = plain(node)
        assert type(found) is dict
        assert not [leaf for leaf in leaves(found) if isinstance(leaf, DictConfig | ListConfig)]
        assert all(type(leaf) in (str, int, float, bool, type(None)) for leaf in leaves(found))
    assert plain(None) is None and plain("balanced") == "balanced"
