import pytest

from hep2.config import redacted, redacted_words


def test_values_under_the_names_of_secrets_are_blotted_out() -> None:
    node = {"logger": {"api_key": "k", "WANDB_API_KEY": 1, "tags": ["a"]}, "password": None}
    assert redacted(node) == {
        "logger": {"api_key": "***", "WANDB_API_KEY": "***", "tags": ["a"]},
        "password": None,
    }


def test_the_environments_key_is_found_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123abcd")
    assert redacted({"name": "x0123abcdy", "n": 3, "l": [("0123abcd",)]}) == {
        "name": "x***y",
        "n": 3,
        "l": [["***"]],
    }


def test_command_lines_keep_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    words = ["stage=head", "+logger.wandb.api_key=k=1", "~callbacks.progress", "name=api_key"]
    assert redacted_words(words) == [
        "stage=head",
        "+logger.wandb.api_key=***",
        "~callbacks.progress",
        "name=api_key",
    ]
    monkeypatch.setenv("WANDB_API_KEY", "0123abcd")
    assert redacted_words(["name=0123abcd"]) == ["name=***"]
