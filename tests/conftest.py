import os

# Before torch, wandb and tqdm are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "disabled"
os.environ["TQDM_DISABLE"] = "1"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # a test may import it before hep2.data.augment

import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hep2 import config
from hep2.rundir.directory import RunDir

if TYPE_CHECKING:
    from hep2.data.fold import Fold

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"

# Four specimens a pattern: with five folds every test part lacks patterns, and each training part
# has a specimen of each to validate with.
TINY_DATA = ("data.source.cells=120", "data.source.specimens=20")
CHOOSING = ("protocol.validation=0.2", "++stage.learn_from=training")  # epochs, by other specimens
TINY = (
    *TINY_DATA,
    "model.network.widths=[4,8,8,256]",
    "stage.epochs=6",
    "stage.batch_size=8",
    "stage.optimizer.lr=1e-2",
    "features.orientations=2",
    *CHOOSING,
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",  # on every processor
    "trainer.enable_progress_bar=false",
    "~callbacks.progress",
    "logger=csv",
    "checkpoint_seconds=0",  # tests of interrupted runs look at every epoch
)

Configure = Callable[..., DictConfig]

config.register()


def composed(*overrides: str, conf: Path = CONF) -> DictConfig:
    """The configuration of a command line, nothing made smaller."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf), version_base="1.3"):
        return compose("train", overrides=list(overrides))


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for the session: the synthetic cells are simulated once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def configure(tmp_path: Path, cache_dir: Path) -> Configure:
    """Composes the configuration of a tiny run; its directory lies in this test's own folder."""

    def tiny(*overrides: str) -> DictConfig:
        return composed(*TINY, f"runs_dir={tmp_path}/runs", f"cache_dir={cache_dir}", *overrides)

    return tiny


@dataclass(frozen=True)
class Trained:
    """Both stages of the tiny experiment, fold 0, seed 0. Read only: other tests read them too."""

    runs_dir: Path
    dcae: RunDir
    head: RunDir


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Trained:
    from hep2.run import fit

    runs = tmp_path_factory.mktemp("trained")
    where = (f"runs_dir={runs}", f"cache_dir={cache_dir}")
    dcae, head = (fit(composed(*TINY, *where, f"stage={stage}")) for stage in ("dcae", "head"))
    return Trained(runs, dcae, head)


@pytest.fixture(scope="session")
def fold(cache_dir: Path) -> "Fold":
    """The cells and the split of the tiny experiment's fold 0."""
    from hep2.data.fold import open_fold

    return open_fold(composed(*TINY_DATA, *CHOOSING, f"cache_dir={cache_dir}"))


InProcess = Callable[..., tuple[object, str, str]]


@pytest.fixture
def in_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> InProcess:
    """Any program in this process, in this test's own folder: exit code, output, errors."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # as main sets it: taken back after the test
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(HydraConfig.instance(), "cfg", HydraConfig.instance().cfg)
    monkeypatch.chdir(tmp_path)

    def run(main: Callable[[], None], *words: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", [*words])
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture(autouse=True)
def no_traces() -> Iterator[None]:
    """Logging handlers and Hydra's singletons are as they were before the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for logger in root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False  # Hydra's configuration of logging disables those that exist
    GlobalHydra.instance().clear()
