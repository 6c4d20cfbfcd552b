"""Who may import whom: the contracts of import-linter in pyproject.toml."""

from pathlib import Path

import pytest


def test_every_module_imports_only_from_floors_below(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

    monkeypatch.setattr("logging.config.dictConfig", lambda _: None)  # it would silence segkit for all tests behind
    monkeypatch.chdir(Path(__file__).parents[1])
    assert lint_imports(no_cache=True) == EXIT_STATUS_SUCCESS
