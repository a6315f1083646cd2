"""Owns: that the textbook's commands run and print what its pages show. Leaves to others: what the commands do."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("torch", reason="needs what training needs")

import textbook
from paths import ROOT
from PIL import Image

PAGES = sorted(path for path in textbook.PAGES.glob("*.md") if path.name != "README.md")
ids = [page.stem for page in PAGES]
pytestmark = pytest.mark.timeout(500)  # a page trains up to five small networks


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_of_a_page_print_what_it_shows_and_make_its_figures(page, tmp_path):
    with textbook.folder(tmp_path):
        wrong = textbook.run_page(page)

    assert wrong == {}
    for figure in textbook.figures(page):
        assert (tmp_path / textbook.source_of(figure)).is_file(), figure


def test_index_leads_to_every_page_and_no_link_leads_nowhere():
    index = (textbook.PAGES / "README.md").read_text(encoding="utf-8")
    assert {page.name for page in PAGES} <= set(re.findall(r"\(([\w.]+)\)", index))
    assert 10 <= len(PAGES) <= 13
    for page in (*PAGES, textbook.PAGES / "README.md"):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_a_page_has_commands_of_known_kinds_an_example_of_a_lecture_and_sources(page):
    text = page.read_text(encoding="utf-8")
    kinds = [fence.kind for fence in textbook.fences(text) if fence.language == "console"]

    assert set(kinds) <= set(textbook.KINDS)
    assert text.count("```console") == len(kinds)
    assert text.count("```pycon") == len(textbook.fences(text)) - len(kinds)
    for fence in textbook.fences(text):
        if fence.language == "console":
            assert textbook.commands(fence), f"line {fence.line} has no command"
    assert "## Sources" in text
    assert "lecture" in text
    assert not re.search(r"/(tmp|home|root|work)/", text)  # of the machine that it was written on


def test_figures_are_small_and_each_is_shown():
    shown = {figure for page in PAGES for figure in textbook.figures(page)}

    assert shown == set((textbook.PAGES / "figures").rglob("*.*"))
    assert {figure.name: size for figure in shown if (size := figure.stat().st_size) > 60_000} == {}


@pytest.mark.parametrize(
    ("shown", "found", "tolerance", "agree"),
    [
        ("a 1\n", "a 1\n", 0, True),
        ("a  1\n", "a 1\n", 0, True),
        ("a 1\n", "a 2\n", 0, False),
        ("a 1\n", "a 1\nb\n", 0, False),
        ("a 1\n...\n", "a 1\nb\nc\n", 0, True),
        ("...\nc\n", "a\nb\nc\n", 0, True),
        ("...\nb\n", "a\nb\nc\n", 0, False),
        ("a\n...\nc\n", "a\nx\nc\n", 0, True),
        ("a\n...\nc\n", "b\nx\nc\n", 0, False),
        ("...\nb\n...\n", "a\nb\nc\n", 0, True),
        ("...\n", "a\n", 0, True),
        ("", "a\n", 0, False),
        ("0.500 of 100\n", "0.510 of 99\n", 0.02, True),
        ("0.500\n", "0.520\n", 0.02, False),
        ("1.5e-09\n", "1.6e-09\n", 0.01, True),  # one in the last digit
        ("1.5e-09\n", "1.8e-09\n", 0.01, False),
        ("a 0.5\n", "b 0.5\n", 0.5, False),
    ],
)
def test_a_page_is_compared_line_by_line_and_number_by_number(shown, found, tolerance, agree):
    assert textbook.agrees(shown, found, tolerance) is agree


def test_a_page_that_shows_something_else_is_told_and_can_be_renewed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```console check\n$ python -m this\nThe Zen of Python, by Guido\n```\n")
    with textbook.folder(tmp_path):
        (told,) = textbook.run_page(page).values()
    assert "The Zen of Python, by Tim Peters" in told

    textbook.renew(page, slow=False)

    with textbook.folder(tmp_path):
        assert textbook.run_page(page) == {}


def test_figures_alone_are_made_by_the_commands_up_to_the_one_that_leaves_the_last(tmp_path):
    page = tmp_path / "page.md"
    draws = "$ python -m training.inspect --backbone lenet5 --input 32 --figure layers.png\n"
    page.write_text(f"```console run\n{draws}$ rm -r everything\n```\n![layers](figures/layers.png)\n")
    before = page.read_text()

    textbook.main(["--figures", str(tmp_path / "made"), str(page)])

    with Image.open(tmp_path / "made" / "layers.png") as picture:
        assert len(picture.getcolors()) <= 64
    assert page.read_text() == before
    page.write_text(f"```console run\n{draws}```\n![other](figures/other.png)\n")
    with pytest.raises(textbook.PageError, match=r"page\.md: no command leaves other\.png"):
        textbook.draw_figures(page, tmp_path / "made")


def test_figures_of_slow_commands_are_left_to_their_page(tmp_path):
    page = textbook.PAGES / "fast_convolutions.md"
    assert textbook.draw_figures(page, tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_failing_command_and_a_wrong_example_are_told(tmp_path):
    page = tmp_path / "page.md"
    for text, reason in (
        ("```console run\n$ python -m training.inspect --backbone nonsense\n```\n", "nonsense"),
        ("```console run\n$ rm -r everything\n```\n", "is no `python -m MODULE`"),
        ("```pycon\n>>> 1 + 1\n3\n```\n", "Expected"),
    ):
        page.write_text(text)
        with textbook.folder(tmp_path), pytest.raises(textbook.PageError, match=reason):
            textbook.run_page(page)


def test_everything_a_page_runs_is_part_of_this_checkout():
    for page in PAGES:
        for fence in textbook.fences(page.read_text(encoding="utf-8")):
            if fence.kind in ("check", "run", "slow"):
                for command in textbook.commands(fence):
                    assert (ROOT / command.words[2].split(".")[0]).is_dir(), command.typed
