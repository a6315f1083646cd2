"""Owns: the table at the end of `make bench`, and what is measured for it. Leaves to others: the benchmarks."""

from __future__ import annotations

import json

import pytest

from benchmark import __main__ as bench
from benchmark.support.pairs import RECORD, Figure, Target, report


@pytest.fixture
def figures(tmp_path, monkeypatch):
    path = tmp_path / "figures.jsonl"
    monkeypatch.setenv(RECORD, str(path))
    return path


@pytest.mark.parametrize(
    ("target", "in_words", "is_reached"),
    [(Target(0.9), "<= 0.9", False), (Target(0.9, is_lower_bound=True), ">= 0.9", True), (None, "", True)],
)
def test_a_ratio_is_printed_and_left_for_the_table(figures, capsys, target, in_words, is_reached):
    report("640x480", "own / other", [0.8, 1.1, 0.95], target)

    (line,) = figures.read_text().splitlines()
    assert Figure(**json.loads(line)) == Figure("640x480: own / other", 0.95, 0.8, 1.1, in_words, is_reached)
    printed = capsys.readouterr().out
    assert "own / other: 0.950 (0.800 to 1.100)" in printed
    assert ("MISSED" in printed) == (not is_reached)


def test_alone_a_benchmark_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv(RECORD, raising=False)
    monkeypatch.chdir(tmp_path)

    report("640x480", "own / other", [1.0])

    assert list(tmp_path.iterdir()) == []


def test_the_table_has_target_verdict_and_the_last_runs_figure():
    found = [
        Figure("a: rate", 0.95, 0.9, 1.0, ">= 0.97", is_reached=False),
        Figure("b: memory", 0.31, 0.3, 0.32, "<= 0.33", is_reached=True),
        Figure("c: share", 1.0, 1.0, 1.0, "", is_reached=True),
    ]

    cells = [line.split("  ") for line in bench.table(found, {"a: rate": {"median": 0.96, "date": "2026-11-20"}})]

    words = [[cell.strip() for cell in row if cell.strip()] for row in cells]
    assert words == [
        ["median", "least to most", "target", "last run"],
        ["a: rate", "0.950", "0.900 to 1.000", ">= 0.97", "MISSED", "0.960 of 2026-11-20"],
        ["b: memory", "0.310", "0.300 to 0.320", "<= 0.33", "reached"],
        ["c: share", "1.000", "1.000 to 1.000"],
    ]


def options(**changes):
    given = {"all": False, "names": [], "data": "", "weights": "", "backbone": "resnet18"}
    return type("Options", (), {**given, **changes})()


def test_without_all_the_core_is_measured_and_training_where_there_is_data():
    core = [one.module for one in bench.chosen(options())]
    everything = [one.module for one in bench.chosen(options(all=True, data="photos", weights="w.safetensors"))]

    assert "node_rate" in core
    assert "viewers" not in core
    beside = {"viewers", "stranger", "dashboard", "black_box", "demo", "loading", "finetuning", "probe", "look"}
    assert {*core, *beside} <= set(everything)
    assert {one.module for one in bench.chosen(options(names=["viewers"]))} == {"viewers"}
    assert [one.module for one in bench.chosen(options(names=["probe"], data="a", weights="b"))] == ["probe"]


def test_results_are_kept_beside_those_of_a_benchmark_that_fails_and_compared_by_the_next_run(
    tmp_path, monkeypatch, capsys
):
    works = bench.Measurement("support.pairs", is_core=True)  # which has nothing to run
    monkeypatch.setattr(bench, "MEASUREMENTS", (works, bench.Measurement("nothing_there", is_core=True)))
    (tmp_path / "results.json").write_text("no JSON")

    assert bench.main(["--output", str(tmp_path)]) == 1

    assert json.loads((tmp_path / "results.json").read_text()) == []
    assert "failed: nothing_there" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_figures_of_earlier_runs_stay_until_they_are_measured_again(tmp_path):
    old = [Figure(name, 0.5, 0.4, 0.6, "", is_reached=True) for name in ("a", "b")]
    results = tmp_path / "results.json"
    results.write_text(json.dumps(bench.merged(old, {})))

    last = bench.earlier(results)
    rows = bench.merged([Figure("b", 0.7, 0.7, 0.7, "", is_reached=True)], last)

    assert {name: row["median"] for name, row in last.items()} == {"a": 0.5, "b": 0.5}
    assert {row["name"]: row["median"] for row in rows} == {"a": 0.5, "b": 0.7}
    assert all(row["date"] and row["machine"] for row in rows)
    assert bench.earlier(tmp_path / "nothing.json") == {}


def test_what_was_measured_is_kept_after_each_benchmark_and_what_was_not_is_named(tmp_path, monkeypatch, capsys):
    kept = []

    def measured(one, _):
        results = tmp_path / "results.json"
        kept.append([row["name"] for row in json.loads(results.read_text())] if results.is_file() else [])
        if one.module == "c":
            raise KeyboardInterrupt
        return [Figure(one.module, 0.5, 0.4, 0.6, "", is_reached=True)], 0

    monkeypatch.setattr(bench, "MEASUREMENTS", tuple(bench.Measurement(name, is_core=True) for name in "abc"))
    monkeypatch.setattr(bench, "run", measured)

    assert bench.main(["--output", str(tmp_path)]) == 130

    assert kept == [[], ["a"], ["a", "b"]]
    assert "not measured: finetuning, loading, look, probe" in capsys.readouterr().out


def test_figures_of_another_machine_are_not_compared_with(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "MEASUREMENTS", (bench.Measurement("a", is_core=True),))
    monkeypatch.setattr(bench, "run", lambda *_: ([Figure("a", 0.5, 0.4, 0.6, "", is_reached=True)], 0))
    row = {**vars(Figure("a", 0.123, 0.1, 0.2, "", is_reached=True)), "date": "2026-01-02", "machine": "another"}
    (tmp_path / "results.json").write_text(json.dumps([row]))

    assert bench.main(["--output", str(tmp_path)]) == 0
    assert "0.123" not in capsys.readouterr().out
    assert bench.main(["--output", str(tmp_path)]) == 0
    assert "0.500 of " in capsys.readouterr().out


def test_a_benchmark_of_training_without_data_is_refused_before_anything_runs(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        bench.main(["--output", str(tmp_path), "probe", "--data", "photos"])

    assert ended.value.code == 2
    assert "probe: give --data, for probe and look with --weights" in capsys.readouterr().err


def test_a_name_that_is_no_benchmark_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        bench.main(["--output", str(tmp_path), "node_rates"])

    assert ended.value.code == 2
    assert "there is no benchmark node_rates; choose from" in capsys.readouterr().err
