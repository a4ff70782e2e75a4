"""The command `hep2`: one word says what to do, the others are the settings of that program.

Imports nothing that it does not need: `hep2 --help` answers at once.
"""

import difflib
import importlib
import os
import sys
from dataclasses import dataclass

from hep2 import __version__


@dataclass(frozen=True)
class Command:
    """What a word stands for."""

    module: str  # whose `main` reads the command line
    help: str
    words: tuple[str, ...] = ()  # before the user's own


_TRAIN, _EVALUATE = "hep2.programs.train", "hep2.programs.evaluate"
COMMANDS = {
    "train": Command(_TRAIN, "one stage on one fold: hep2 train stage=dcae fold=0"),
    "sweep": Command(_TRAIN, "many: hep2 sweep stage=dcae,head fold=0,1,2,3,4", ("-m",)),
    "rows": Command("hep2.rows", "rows of conf/experiment: hep2 rows dcae_plus,cnn fold=0,1"),
    "search": Command("hep2.search", "hyper-parameters by Optuna: hep2 search --trials 30"),
    **{
        task: Command(_EVALUATE, help, (f"task={task}",))
        for task, help in {
            "report": "tables and pictures of finished runs: hep2 report name=default",
            "predict": "patterns of other cells: hep2 predict run=default images=DIR out=calls.csv",
            "embed": "features of other cells: hep2 embed run=default images=DIR out=cells.npy",
            "export": "a network in one file: hep2 export run=default out=model.onnx",
            "audit": "does a split leak? hep2 audit images=split.csv",
        }.items()
    },
    "schema": Command("hep2.programs.schema", "for editors that know JSON Schema: hep2 schema DIR"),
    "completion": Command(
        "hep2.programs.completion", "for bash, zsh, fish: hep2 completion bash says how"
    ),
}


def main() -> None:
    """Do what the first word says, until nobody reads on: `hep2 --help | head`."""
    try:
        _main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries again
        sys.exit(1)


def _main() -> None:
    name, *words = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_help())
    elif name in ("-V", "--version"):
        print(f"hep2 {__version__}")
    elif name in COMMANDS:
        _start(name, words)
    else:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(COMMANDS)}"
        sys.exit(_refused(f"hep2 {name} is unknown: {meant}"))


def _help() -> str:
    lines = [f"  {name:11} {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: hep2 COMMAND [key=value ...]",
            "",
            "Experiments on HEp-2 cell patterns; whole specimens are held out.",
            "",
            *lines,
            "",
            "hep2 COMMAND --help shows its settings, hep2 --version the version. A folder conf/",
            "where you work is searched first: conf/experiment/mine.yaml is experiment=mine.",
        ]
    )


def _start(name: str, words: list[str]) -> None:
    command = COMMANDS[name]
    try:
        module = importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("hep2"):
            raise
        sys.exit(_refused(f"hep2 {name} needs {error.name}: pip install 'hep2[sweeps]'"))
    # A file that Python can run with these words: Lightning and sweeps start it again.
    sys.argv = [str(module.__file__), *command.words, *words]
    module.main()


def _refused(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 2
