"""Owns: several bags in one report. Oracle: counts added with the csv module from what each bag's own run leaves."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from evaluating import Page, colour_bag, run
from paths import ROOT
from tiny_bag import BLUE, GREEN, RED
from tiny_model import as_int8, tiny_spec, write_tiny_model

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_BELOW_TARGET, EXIT_INTERRUPTED, EXIT_OK
from cnn_perception.evaluation import cli

DRIVES = {
    "monday/run": [RED] * 30 + [GREEN] * 30,  # answered rightly
    "tuesday/run": [RED] * 30 + [GREEN] * 20 + [BLUE] * 10,  # the last ten are green, for all that is known
    "alone": [BLUE] * 40,
}
LABELS = "bag,start_s,end_s,class\nmonday/run,0,3,red\nmonday/run,3,9,green\ntuesday/run,0,3,red\n" + (
    "tuesday/run,3,9,green\nalone,0,3,blue\n"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def drives(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drives")
    for name, colours in DRIVES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        colour_bag(folder / name, colours)
    (folder / "labels.csv").write_text(LABELS)
    return folder


def evaluated(
    drives: Path, model: Path, output: Path, *arguments: object, bags: tuple[Path, ...] = ()
) -> tuple[int, dict]:
    """Evaluates all drives, or only some bags."""
    given = ["--bag", *(bags or (drives,)), "--labels", drives / "labels.csv", "--model", model, "--output", output]
    code = cli.main([*map(str, given), "--no-video", "--providers=CPUExecutionProvider", *map(str, arguments)])
    return code, json.loads((output / "report.json").read_text()) if (output / "report.json").is_file() else {}


@pytest.fixture(scope="module")
def pooled(drives, model, tmp_path_factory) -> tuple[int, dict, Path]:
    output = tmp_path_factory.mktemp("pooled") / "out"
    code, report = evaluated(drives, model, output, "--jobs", 2, "--min-accuracy", 0.9, "--min-accuracy-each", 0.8)
    return code, report, output


def rows_of(output: Path) -> dict[str, list[dict[str, str]]]:
    found = {}
    for table in output.glob("*/predictions.csv"):
        with table.open() as stream:
            found[table.parent.name] = list(csv.DictReader(stream))
    return found


def test_the_pooled_figures_are_the_counts_of_all_bags_added(pooled):
    code, report, output = pooled
    scored = [row for rows in rows_of(output).values() for row in rows if row["truth"] and row["predicted"]]
    right = sum(row["truth"] == row["predicted"] for row in scored)

    assert (code, report["passed"], report["complete"]) == (EXIT_OK, True, True)
    assert (right, len(scored)) == (140, 150)
    assert report["frames"] == {"total": 160, "scored": 150, "unlabelled": 10, "bad": {}, "lost": 0}
    assert report["top1"] == right / len(scored)
    pairs = Counter((row["truth"], row["predicted"]) for row in scored)
    names = ("red", "green", "blue")
    assert report["confusion"] == [[pairs[known, answer] for answer in names] for known in names]
    low, high = report["headline"]["top1"]["low"], report["headline"]["top1"]["high"]
    assert low < 0.85 < 140 / 150 < high  # Wilson's of 150 independent frames begins at 0.88
    assert report["sampling"]["recordings"] == 3
    assert report["sampling"]["independent_frames"] < 75


def test_each_bag_has_a_row_and_its_own_full_report(pooled):
    _, report, output = pooled
    rows = {row["name"]: row for row in report["bags"]}

    assert list(rows) == ["alone", "monday_run", "tuesday_run"]
    assert [row["frames"]["scored"] for row in rows.values()] == [30, 60, 60]
    assert [row["figures"][0]["value"] for row in rows.values()] == [1.0, 1.0, pytest.approx(50 / 60)]
    for name, row in rows.items():
        own = json.loads((output / name / "report.json").read_text())
        assert (own["source"], own["top1"]) == (row["source"], row["figures"][0]["value"])
        assert (output / name / "report.html").is_file()
        assert row["recording"]["rate_hz"] == pytest.approx(10.0)
    with (output / "bags.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [(row["bag"], row["scored"]) for row in table] == [
        ("alone", "30"),
        ("monday_run", "60"),
        ("tuesday_run", "60"),
    ]
    assert not (output / "predictions.csv").exists()


def test_the_page_links_each_bags_own_and_is_well_formed(pooled):
    _, _, output = pooled
    page = (output / "report.html").read_text()

    assert Page(page).open == []
    for name in ("alone", "monday_run", "tuesday_run"):
        assert f'href="./{name}/report.html"' in page
    for text in (
        "Passed: top-1 of at least 90.0%",
        "required of each: top-1 of at least 80.0%",
        "Worst slices",
        "Bonferroni",
    ):
        assert text in page


def test_the_worst_slices_are_those_with_the_mistakes(pooled):
    _, report, _ = pooled
    slices = {(one["kind"], one["name"]): one for one in report["slices"]}

    assert slices["bag", "tuesday_run"]["value"] == pytest.approx(50 / 60)
    assert slices["class", "green"]["value"] == pytest.approx(50 / 60)
    assert slices["class", "green"]["frames"] == 60
    assert slices["class", "red"]["value"] == 1.0
    assert report["slices"][0]["value"] == min(one["value"] for one in report["slices"])
    assert all(one["low"] <= one["value"] <= one["high"] for one in report["slices"])
    assert {kind for kind, _ in slices} >= {"bag", "class"}
    assert report["worst_of_bags"][0]["bag"] == "tuesday_run"
    assert report["worst_of_bags"][0]["frame"]["is_right"] is False


def without_times(report: dict) -> dict:
    return {name: value for name, value in report.items() if name != "frames_per_second"}


def test_one_job_gives_what_two_give_to_the_last_bit(pooled, drives, model, tmp_path):
    _, report, output = pooled

    _, again = evaluated(drives, model, tmp_path / "out", "--min-accuracy", 0.9, "--min-accuracy-each", 0.8)

    assert without_times(again) == without_times(report)
    for name in ("alone", "monday_run", "tuesday_run"):
        of_one, of_two = (folder / name / "predictions.csv" for folder in (tmp_path / "out", output))
        assert of_one.read_bytes() == of_two.read_bytes()
    assert (tmp_path / "out" / "bags.csv").read_bytes() == (output / "bags.csv").read_bytes()


def test_the_fastest_is_looked_for_once_and_every_bag_is_answered_by_it(drives, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = write_tiny_model(tmp_path / "m.onnx")
    write_tiny_model(tmp_path / "m_int8.onnx", spec=as_int8(tiny_spec()))

    code, report = evaluated(drives, model, tmp_path / "out", "--jobs", 2, "--providers", "fastest", "cpu")

    assert code == EXIT_OK
    files = {json.loads(one.read_text())["model"]["sha256"] for one in (tmp_path / "out").glob("*/report.json")}
    assert files == {report["model"]["sha256"]}
    assert len(list((tmp_path / "cache").rglob("fastest/*.json"))) == 1  # of the processes none has looked for it


def test_what_all_or_each_miss_is_exit_code_3(drives, model, tmp_path, capsys):
    pair = (drives / "alone", drives / "tuesday/run")
    limits = ("--jobs", 2, "--min-accuracy", 0.9, "--min-accuracy-each", 0.5)

    code, report = evaluated(drives, model, tmp_path / "out", *limits, bags=pair)
    assert (code, report["passed"]) == (EXIT_BAD_INPUT, False)  # lines of the table are of no bag that is evaluated
    assert "of none of the 2 bags are the lines of 'monday/run'" in capsys.readouterr().err
    code, report = evaluated(drives, model, tmp_path / "out", "--jobs", 2, "--min-accuracy-each", 0.9, bags=pair)

    assert (code, report["passed"]) == (EXIT_BELOW_TARGET, None)
    assert {row["name"]: row["passed"] for row in report["bags"]} == {"alone": True, "run": False}


def test_a_broken_bag_costs_itself_and_is_said(drives, model, tmp_path, capsys):
    broken = tmp_path / "<b>broken"
    broken.mkdir()
    (broken / "metadata.yaml").write_text("nonsense")
    (broken / "x.db3").write_bytes(b"no database")

    code, report = evaluated(drives, model, tmp_path / "out", bags=(drives / "monday/run", broken))

    assert code == EXIT_BAD_INPUT
    assert (report["complete"], report["frames"]["scored"], report["top1"]) == (False, 60, 1.0)
    assert [(row["name"], bool(row["failure"]), row["attempts"]) for row in report["bags"]] == [
        ("run", False, 1), ("<b>broken", True, 1)
    ]  # fmt: skip
    assert any("x.db3: cannot be read at all" in remark for remark in report["remarks"])
    assert "error: <b>broken: not evaluated: " in capsys.readouterr().err
    page = (tmp_path / "out" / "report.html").read_text()
    assert Page(page).open == []
    assert "&lt;b&gt;broken" in page


def test_bags_that_are_all_broken_and_a_bad_model_are_one_line(drives, model, tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.mcap").write_bytes(b"nothing")

    code, _, _ = run(tmp_path, model, "--bag", tmp_path / "a", tmp_path / "b", "--labels", "/label", "--jobs", 2)
    assert code == EXIT_BAD_INPUT
    assert "error: not one of 2 bags could be evaluated" in capsys.readouterr().err
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    code, _, _ = run(tmp_path, tmp_path / "bad.onnx", "--bag", drives, "--labels", drives / "labels.csv")

    assert code == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert "bad.onnx" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("where", [".", "out"])
def test_results_among_the_bags_are_refused(drives, model, capsys, where):
    code, _ = evaluated(drives, model, drives / where)

    assert code == EXIT_BAD_INPUT
    assert f"lies in {drives}, which is read" in capsys.readouterr().err


def test_no_report_of_an_earlier_run_is_left_that_could_be_taken_for_this_ones(drives, model, tmp_path):
    gone, broken = (colour_bag(tmp_path / name, [RED] * 4) for name in ("gone", "broken"))
    output = tmp_path / "out"
    assert evaluated(drives, model, output, "--labels", "", bags=(gone, broken))[0] == EXIT_OK
    (output / "gone" / "mine.txt").write_text("not of this program")
    next(broken.glob("*.mcap")).write_bytes(b"nothing")

    code, _ = evaluated(drives, model, output, "--labels", "", bags=(drives / "alone", broken))

    assert code == EXIT_BAD_INPUT
    left = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    alone = {f"alone/{name}" for name in ("report.json", "report.html", "predictions.csv")}
    assert left == alone | {"report.json", "report.html", "bags.csv", "gone/mine.txt"}


def workers_of(program: subprocess.Popen[str]) -> list[int]:
    """The processes that a program has started."""
    try:
        return [int(pid) for pid in Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()]
    except OSError:
        return []


def has_open(pid: int, folder: Path) -> bool:
    """Whether a process has a file of a folder open."""
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(folder) in str(link.readlink()):
                    return True
    return False


def program(model: Path, output: Path, *arguments: object) -> subprocess.Popen[str]:
    start = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "from cnn_perception.evaluation import cli\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    command = ["--model", model, "--output", output, "--providers", "CPUExecutionProvider", "--no-video", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", start, *map(str, command)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_worker_that_is_killed_costs_its_bag_and_the_bag_is_tried_once_more(drives, model, tmp_path):
    planted = colour_bag(tmp_path / "planted", [RED] * 3000)
    killed: set[int] = set()
    arguments = ("--bag", drives / "alone", planted, drives / "monday/run", "--jobs", 2)
    with program(model, tmp_path / "out", *arguments) as running:
        while running.poll() is None:
            for pid in workers_of(running):
                if pid not in killed and has_open(pid, planted):
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
            time.sleep(0.005)
        said = running.stderr.read() if running.stderr else ""

    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert running.returncode == EXIT_BAD_INPUT
    assert len(killed) == 2
    assert [bool(row["failure"]) for row in report["bags"]] == [False, True, False]
    assert "killed (SIGKILL)" in report["bags"][1]["failure"]
    assert report["frames"]["total"] == 100
    assert "planted: is tried once more" in said
    assert "Traceback" not in said


def test_ctrl_c_ends_all_and_leaves_what_is_done(drives, model, tmp_path):
    long = [colour_bag(tmp_path / name, [RED] * 3000) for name in ("second", "third")]
    with program(model, tmp_path / "out", "--bag", drives / "alone", *long) as running:
        while not any(has_open(pid, long[0]) for pid in workers_of(running)):
            assert running.poll() is None
            time.sleep(0.005)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)

    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert running.returncode == EXIT_INTERRUPTED
    assert "Traceback" not in said
    assert report["complete"] is False
    assert report["bags"][0]["complete"] is True
    assert report["bags"][2]["failure"] == "interrupted before it was done"
    assert 40 <= report["frames"]["total"] < 3000
    assert (tmp_path / "out" / "alone" / "report.html").is_file()


def test_one_bag_is_evaluated_as_ever_and_knows_its_labels_by_name(drives, model, tmp_path):
    (tmp_path / "of alone.csv").write_text("start_s,end_s,class\n0,3,blue\n")
    arguments = ("--bag", drives / "alone", "--no-video", "--jobs", 4)

    code, report, rows = run(tmp_path, model, *arguments, "--labels", tmp_path / "of {bag}.csv")

    assert (code, report["top1"], len(rows)) == (EXIT_OK, 1.0, 40)
    assert "bags" not in report
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.json", "report.html", "predictions.csv"}
    _, report, _ = run(tmp_path, model, *arguments, "--labels", drives / "labels.csv")
    assert report["frames"]["scored"] == 30


def test_what_is_for_several_bags_is_refused_of_one(drives, model, tmp_path, capsys):
    code, _, _ = run(tmp_path, model, "--bag", drives / "alone", "--min-accuracy-each", 0.5)

    assert code == EXIT_BAD_INPUT
    assert "are for several bags; name more than one" in capsys.readouterr().err
    assert evaluated(drives, model, tmp_path / "other", "--jobs", 0)[0] == EXIT_BAD_INPUT
    assert "--jobs is 0; choose 1 or more" in capsys.readouterr().err


def test_limits_of_each_bag_are_called_so_where_they_do_not_fit(drives, model, tmp_path, capsys):
    given = ["--bag", str(drives), "--model", str(model), "--output", str(tmp_path / "out")]
    cases = (
        (["--min-accuracy-each", "0.5"], "--min-accuracy-each needs --labels"),
        (["--min-map-each", "0.5", "--labels", str(drives / "labels.csv")], "--min-map-each is for multilabel models"),
    )
    for more, said in cases:
        assert cli.main([*given, *more, "--providers=CPUExecutionProvider"]) == EXIT_BAD_INPUT
        assert capsys.readouterr().err.startswith(f"error: {said}")


def test_one_bag_is_not_evaluated_among_the_files_of_several(pooled, drives, model, capsys):
    _, _, output = pooled
    before = sorted(output.rglob("*"))

    code, _ = evaluated(drives, model, output, bags=(drives / "alone",))

    assert code == EXIT_BAD_INPUT
    assert f"error: {output}: holds an evaluation of several bags" in capsys.readouterr().err
    assert sorted(output.rglob("*")) == before


def test_nothing_of_an_earlier_run_is_left_where_no_bag_can_be_evaluated(drives, model, tmp_path):
    bags = tuple(shutil.copytree(drives / name, tmp_path / name) for name in ("monday", "alone"))
    output = tmp_path / "out"
    code, _ = evaluated(drives, model, output, "--results-bag", "reference", bags=bags)
    assert code == EXIT_OK
    assert (output / "alone" / "results" / "results.mcap").is_file()
    for storage in tmp_path.glob("*/**/*.mcap"):
        if output not in storage.parents:
            storage.write_bytes(b"")

    code, report = evaluated(drives, model, output, bags=bags)

    assert (code, report) == (EXIT_BAD_INPUT, {})
    assert [path for path in output.rglob("*") if path.is_file()] == []
