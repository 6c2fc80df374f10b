"""Runs of the command share the account's token."""

from __future__ import annotations

import stat
from pathlib import Path

from command import mioesim

from mioesim_async.sandbox import Sandbox


def test_two_runs_log_in_once_and_their_token_file_is_the_users_alone(tmp_path: Path) -> None:
    with Sandbox(10) as sandbox:
        for _ in range(2):
            assert mioesim("query", *sandbox.iccids, sandbox=sandbox).status == 0
        assert sandbox.logins == 1
    (file,) = tmp_path.rglob("*.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_the_environment_chooses_another_store(tmp_path: Path) -> None:
    with Sandbox(10) as sandbox:
        store = tmp_path / "mine.json"
        done = mioesim("query", sandbox.iccids[0], sandbox=sandbox, MIOESIM_TOKEN_STORE=str(store))
        assert done.status == 0
    assert store.is_file()
    assert not (tmp_path / "state").exists()
