from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from modelyard.settings import SettingsError, load_settings


def write(folder: Path, text: str) -> Path:
    file = folder / "settings.yaml"
    file.write_text(text)
    return file


def test_a_file_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "namespace: own\nprices: {H100: '2.49'}\ncollector: {url: 'https://a', service: s}\n")
    monkeypatch.setenv("MODELYARD_COLLECTOR__URL", "https://b")
    monkeypatch.setenv("MODELYARD_WATCHNAMESPACES", '["x"]')
    settings = load_settings(file)
    assert settings.prices["H100"] == Decimal("2.49")
    assert (settings.collector.url, settings.collector.service) == ("https://b", "s")
    assert settings.watch_namespaces == ("x",)


def test_the_file_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_SETTINGS", str(write(tmp_path, "workers: 3")))
    assert load_settings().workers == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colector: {}", "colector: there is no such setting; there are .*collector"),
        ("collector: {ulr: x}", "collector.ulr: there is no such setting; there are .*url"),
        ("workers: many", "workers: Input should be a valid integer"),
        ("workers: 0", "workers: Input should be greater than or equal to 1"),
        ("dataPlane: magic", "dataPlane: Input should be 'auto', 'baize' or 'native'"),
        ("- a", "must be a mapping"),
        ("a: [", "not valid YAML, line 1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(write(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"missing\.yaml cannot be read: No such file"):
        load_settings(tmp_path / "missing.yaml")
