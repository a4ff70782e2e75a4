"""Several rows of a comparison as one plan."""

from pathlib import Path

import pytest
from conftest import CONF, TINY_DATA

from hep2 import rows
from hep2.config import composed
from hep2.search import _space
from hep2.sweep.jobs import Job, plan


def test_a_row_brings_its_stages_and_the_command_line_wins() -> None:
    words = ["fold=0,1", "name=x"]
    assert rows.jobs_of("dcae_mlp", words) == [
        ["experiment=dcae_mlp", f"stage={stage}", f"fold={fold}", "name=x"]
        for stage in ("dcae", "head_plain")
        for fold in (0, 1)
    ]
    assert rows.jobs_of("chance", ["name=x"]) == [["experiment=chance", "name=x"]]
    only = rows.jobs_of("dcae_mlp", ["stage=head_plain", "fold=1"])
    assert only == [["experiment=dcae_mlp", "stage=head_plain", "fold=1"]]


def test_rows_are_one_plan_in_which_nothing_is_done_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Job] = []

    def run_jobs(jobs: list[Job], command: object, n_jobs: int, fail_fast: bool) -> bool:
        ran.extend(jobs)
        return n_jobs == 2

    monkeypatch.setattr(rows, "run_jobs", run_jobs)
    rows.main(["dcae_mlp,dcae_linear,chance", "--jobs", "2", *TINY_DATA, "fold=0,1", "name=x"])
    heads = ("head_plain-dcae-mlp_plain", "head-dcae-linear", "head-pixels-chance")
    names = [(job.run.path.parents[1].name, job.run.path.parent.name) for job in ran]
    folds = ("fold0", "fold1")
    assert names == [(name, fold) for name in ("dcae-dcae", *heads) for fold in folds]
    assert [job.needs for job in ran[4:6]] == [(1,), (2,)]  # the encoders of the first row
    with pytest.raises(SystemExit) as ended:
        rows.main(["chance", "name=x"])  # one job at a time: not all ended well
    assert ended.value.code == 1


def test_a_row_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        rows.main(["dcae_mpl", "name=x"])
    said = capsys.readouterr().err
    assert said.startswith("error: experiment=dcae_mpl is not an option: choose one of ")


def test_a_users_own_folders_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine/one", "ablation/mine", "mine/two"):
        file = tmp_path / "conf" / "experiment" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("# @package _global_\nname: mine\n")
    (tmp_path / "conf" / "search.yaml").touch()
    theirs = rows.names_of("ablation")
    monkeypatch.chdir(tmp_path)
    assert rows.names_of("mine,cnn") == ["mine/one", "mine/two", "cnn"]
    assert rows.names_of("ablation") == sorted([*theirs, "ablation/mine"])
    assert _space() == tmp_path / "conf" / "search.yaml"
    monkeypatch.undo()
    assert _space() == CONF / "search.yaml"


def test_a_folder_is_all_its_rows() -> None:
    names = rows.names_of("chance,ablation,cnn")
    assert (names[0], names[-1]) == ("chance", "cnn")
    inside = {f"ablation/{file.stem}" for file in (CONF / "experiment/ablation").iterdir()}
    assert set(names[1:-1]) == inside and len(names) == 2 + len(inside)


def test_it_is_the_plan_of_train_m() -> None:
    words = rows.jobs_of("dcae_mlp", ["fold=0,1"])
    assert [job.number for job in plan(words, [composed(each) for each in words])] == [1, 2, 3, 4]


def test_quick_rows_bring_the_encoders_that_they_name() -> None:
    words = [job for row in rows.names_of("quick") for job in rows.jobs_of(row, ["fold=0"])]
    jobs = plan(words, [composed(each) for each in words])
    assert [(job.run.path.parents[1].name, job.needs) for job in jobs] == [
        ("dcae_plus_quick-dcae", ()),
        ("head-dcae_plus_quick-mlp_means", (1,)),
    ]
