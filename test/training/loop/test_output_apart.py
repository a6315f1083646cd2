"""Owns: no command writes where it looks for images: a run's folder would be a class the next time, its charts images.

Leaves to others: what else is refused of an output (test_train, test_files).
"""

from __future__ import annotations

import pytest
from tiny_images import write_folder

from cnn_perception.errors import EXIT_BAD_INPUT, ConfigError
from training import check, evaluate, train
from training.baselines import command as baselines
from training.data.sources import require_apart
from training.loop.run import settings


@pytest.fixture
def data(tmp_path):
    return write_folder(tmp_path / "signs", {"go": 6, "stop": 6})


def is_refused(main, capsys, *words):
    code = main([str(word) for word in words])
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    return code == EXIT_BAD_INPUT and len(errors) == 1 and "which is read; choose another output" in errors[0]


@pytest.mark.parametrize("inside", ["run", "go/run", "."])
def test_a_run_in_the_folder_of_its_images_is_refused_before_anything_is_made(inside, data, tmp_path, capsys):
    before = sorted(data.rglob("*"))

    assert is_refused(train.main, capsys, "--data", data, "--output", data / inside)
    assert is_refused(train.main, capsys, "--data", data, "--output", tmp_path / "run", "--cache-dir", data / inside)
    assert is_refused(evaluate.main, capsys, "--checkpoint", "no.pt", "--data", data, "--output", data / inside)
    assert is_refused(baselines.main, capsys, "--data", data, "--output", data / inside)
    assert is_refused(check.main, capsys, "--data", data, "--preview", data / inside / "page.html")

    assert sorted(data.rglob("*")) == before
    assert not (tmp_path / "run").exists()


def test_a_run_among_its_other_images_is_refused(data, tmp_path):
    others = write_folder(tmp_path / "others", {"sky": 2})
    given = {"data": [str(data)], "output": str(others / "run"), "outside": str(others)}

    with pytest.raises(ConfigError, match=r"others/run: lies in .*others, which is read"):
        settings(given)
    with pytest.raises(ConfigError, match=r"others/run: lies in .*others, which is read"):
        settings({**given, "outside": None, "teacher": ["t.pt"], "unlabelled": [str(others)]})


def test_a_run_beside_its_images_is_taken(data, tmp_path):
    (tmp_path / "labels.csv").write_text(f"path,class\n{data / 'go' / '00.png'},go\n{data / 'stop' / '00.png'},stop\n")

    require_apart(tmp_path / "run", [data])
    require_apart(data.with_name("signs2"), [data])
    require_apart(data / ".runs" / "one", [data])  # hidden folders are no classes
    require_apart(tmp_path / "run", [tmp_path])  # its table names its images
    require_apart(tmp_path / "run", [tmp_path / "labels.csv"])


def test_a_link_into_the_images_is_followed(data, tmp_path):
    (tmp_path / "elsewhere").symlink_to(data)

    with pytest.raises(ConfigError, match="which is read"):
        require_apart(tmp_path / "elsewhere" / "run", [data])
