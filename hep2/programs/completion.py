"""Shell completion of `hep2`: its commands, and after them groups, options and settings."""

import importlib
import os
import sys

from hep2.programs.console import COMMANDS

BASH = r"""# hep2: add to ~/.bashrc   eval "$(hep2 completion bash)"
_hep2() {
    local IFS=$' \n'
    COMPREPLY=($(hep2 completion query "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _hep2 hep2"""


def main() -> None:
    """Print the script for bash, or what a line that begins with `hep2 ` may go on with."""
    match sys.argv[1:]:
        case ["bash"]:
            print(BASH)
        case ["query", line]:
            _query(line)
        case _:
            sys.exit('error: hep2 completion bash prints a script: eval "$(hep2 completion bash)"')


def _query(line: str) -> None:
    """The commands that fit; of a command that is Hydra's, what Hydra says."""
    name, *words = line.split(" ")[1:] or [""]
    if not words:
        print(*(known for known in COMMANDS if known.startswith(name)))
    elif name in COMMANDS and COMMANDS[name].module.startswith("hep2.programs"):
        program = importlib.import_module(COMMANDS[name].module)
        os.environ["COMP_LINE"] = " ".join(["hep2", *words])
        sys.argv = [str(program.__file__), "-sc", "query=bash"]
        program.main()
