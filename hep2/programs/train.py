"""Train one stage on one fold, or sweep with -m: `python train.py`, `hep2 train`, `hep2 sweep`."""

import hydra
from hydra.core.plugins import Plugins
from omegaconf import DictConfig

from hep2 import cli, config
from hep2.processor import keep_freed_memory, wait_asleep
from hep2.signals import die_with_parent
from hep2.sweep.launcher import ProcessLauncher


def register() -> None:
    """Make known to Hydra what conf/ names, the launcher of sweeps among it."""
    config.register()
    plugins = Plugins.instance()
    plugins.register(ProcessLauncher)
    # Hydra takes names of launchers in `hydra_plugins` only.
    plugins.class_name_to_class["hydra_plugins.hep2.ProcessLauncher"] = ProcessLauncher


register()


@hydra.main(version_base="1.3", config_path=str(config.CONF), config_name="train")
def train(cfg: DictConfig) -> None:
    """One run; heavy imports wait until the configuration is known to be right."""
    with cli.clear_errors():
        cli.check_lists(cfg)
        keep_freed_memory()
        wait_asleep()
        from hep2.run import fit

        fit(cfg)


def main() -> None:
    """Do what this process's command line asks for."""
    die_with_parent()
    cli.main(train)


if __name__ == "__main__":  # jobs of a sweep that was not started by the train.py of a checkout
    main()
