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

ZSH = r"""# hep2: add to ~/.zshrc, behind compinit   eval "$(hep2 completion zsh)"
_hep2() {
    local -a found
    found=(${=$(hep2 completion query "${(j: :)words[1,CURRENT]}" 2>/dev/null)})
    compadd -S '' -a found || { compset -P '*='; _files }
}
compdef _hep2 hep2"""

FISH = r"""# hep2: add to ~/.config/fish/config.fish   hep2 completion fish | source
complete -c hep2 -a '(hep2 completion query (commandline -cp) 2>/dev/null | string split " ")'
complete -c hep2 -f -n 'not string match -q "*=*" -- (commandline -ct)'"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
USAGE = f"hep2 completion SHELL prints a script for {', '.join(SCRIPTS)}"


def main() -> None:
    """Print the script for a shell, or what a line that begins with `hep2 ` may go on with."""
    match sys.argv[1:]:
        case [shell] if shell in SCRIPTS:
            print(SCRIPTS[shell])
        case ["query", line]:
            _query(line)
        case ["-h" | "--help"]:
            print(USAGE)
        case _:
            sys.exit(f"error: {USAGE}")


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
