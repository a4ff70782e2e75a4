"""The house in figures: files, lines, imports, and what a run enters before its first step.

    python -m benchmarks.house
    python -m benchmarks.house --of ../another/checkout

Imports are those between files of `hep2/`, wherever in the file they stand. "Entered" counts the
own files of which a function runs in `python train.py stage=head` before the first optimizer step
(with `logger=csv` and the cells in the cache), as Python's profiler sees it.
"""

import argparse
import ast
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMALL = (
    *("data.source.cells=120", "data.source.specimens=20", "model.network.widths=[4,8,8,256]"),
    *("stage.epochs=1", "trainer.accelerator=cpu", "logger=csv", "~callbacks.progress"),
)
PROFILED = """
import runpy, sys
from pathlib import Path
package = str(Path("hep2").resolve())
entered, ours = set(), lambda code: code.co_filename.startswith(package)
def watch(frame, event, argument):
    code = frame.f_code
    # Bodies of modules and classes are not functions: they lack CO_OPTIMIZED.
    if event == "call" and ours(code) and code.co_flags & 1 and code.co_name[0] != "<":
        entered.add((code.co_filename, code.co_firstlineno))
def told(when):
    files = {file for file, _ in entered}
    print(f"{when}: {len(files)} files, {len(entered)} functions", file=sys.stderr)
from torch.optim.optimizer import register_optimizer_step_pre_hook
first = []
def before(*_):
    if not first:
        first.append(True)
        told("before the first optimizer step")
register_optimizer_step_pre_hook(before)
sys.argv = ["train.py", *sys.argv[1:]]
sys.setprofile(watch)
try:
    runpy.run_path("train.py", run_name="__main__")
finally:
    sys.setprofile(None)
    told("the whole run")
"""


def modules(root: Path) -> dict[str, Path]:
    """The files of the package by their dotted names, without `__init__.py`."""
    return {
        ".".join(file.relative_to(root).with_suffix("").parts): file
        for file in sorted((root / "hep2").rglob("*.py"))
        if file.name != "__init__.py"
    }


def imports(root: Path) -> dict[str, set[str]]:
    """Which files of the package each of them imports."""
    known = modules(root)
    found: dict[str, set[str]] = {}
    for name, file in known.items():
        found[name] = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                asked = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                asked = {alias.name for alias in node.names}
            else:
                continue
            found[name] |= asked & known.keys() - {name}
    return found


def longest_chain(graph: dict[str, set[str]]) -> list[str]:
    """The longest chain of files each of which imports the next.

    Raises:
        ValueError: the imports go round in a circle.
    """
    visiting: set[str] = set()

    @cache
    def below(name: str) -> tuple[str, ...]:
        if name in visiting:
            raise ValueError(f"{name} imports itself by way of others")
        visiting.add(name)
        rest: tuple[str, ...] = max(
            (below(other) for other in sorted(graph[name])), key=len, default=()
        )
        visiting.remove(name)
        return (name, *rest)

    return list(max((below(name) for name in graph), key=len))


def entered(root: Path) -> str:
    """What `stage=head` enters, before its first optimizer step and as a whole."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "disabled",
        "PYTHONPATH": str(root),
    }
    with tempfile.TemporaryDirectory() as folder:
        words = [*SMALL, f"runs_dir={folder}/runs", f"cache_dir={folder}/cache"]
        subprocess.run(
            [sys.executable, "train.py", *words, "stage=dcae"],
            cwd=root, env=environment, check=True, capture_output=True,
        )  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", PROFILED, *words, "stage=head"],
            cwd=root, env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
    return "\n".join(line for line in done.stderr.splitlines() if " functions" in line)


def private_functions(root: Path) -> tuple[int, int, int]:
    """All functions, the private ones, and those of them whose name stands in one more place."""
    every = private = once = 0
    for file in modules(root).values():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        words = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
        words += [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                every += 1
                if node.name.startswith("_") and not node.name.startswith("__"):
                    private += 1
                    once += words.count(node.name) == 1
    return every, private, once


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--of", type=Path, default=ROOT, help="another checkout of hep2")
    root = parser.parse_args().of.resolve()
    files, graph = modules(root), imports(root)
    lengths = {
        name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in files.items()
    }
    rest = [*(root / "hep2").rglob("__init__.py"), *(root / "hep2").rglob("*.j2")]
    lines = sum(lengths.values()) + sum(
        len(f.read_text(encoding="utf-8").splitlines()) for f in rest
    )
    chain = longest_chain(graph)
    importers = {name: sum(name in asked for asked in graph.values()) for name in graph}
    every, private, once = private_functions(root)
    longest = max(lengths, key=lambda name: lengths[name])
    print(
        f"Python files: {len(files)}, of them at the root: {sum(n.count('.') == 1 for n in files)}"
    )
    print(f"lines, template included: {lines}")
    print(f"longest file: {longest}, {lengths[longest]} lines")
    print(f"imports between files: {sum(map(len, graph.values()))}")
    print(f"longest chain of imports: {len(chain)}: {' > '.join(chain)}")
    print(f"files with exactly one importer: {sum(count == 1 for count in importers.values())}")
    print(f"functions: {every}; private: {private}; private and called once: {once}")
    print(entered(root))


if __name__ == "__main__":
    main()
