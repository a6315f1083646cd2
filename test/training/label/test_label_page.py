"""Owns: the page as a person uses it: in a real Chromium, by its keyboard; what is in the file then, csv finds.

Leaves to others: what a decision does (test_label_session), whom the server answers (test_label_command).
"""

from __future__ import annotations

import csv
import errno
import itertools
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from labelling import read_cells, rows_of, served, session_of, write_set, write_table
from paths import ROOT
from PIL import Image

from cnn_perception import files
from demo.scripted_person import ScriptedPerson, chromium
from training.label.answers import Answers, Numbers, SeveralClasses

pytest.importorskip("playwright", reason="playwright is not installed")
if not shutil.which("chromium") and not shutil.which("google-chrome"):
    pytest.skip("no Chromium is installed", allow_module_level=True)

CLASSES = ("ant", "bee", "cat")


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser) -> Iterator:
    """Opens the page of a table in a tab; what goes wrong in the tab, or leaves this machine, fails the test."""
    opened = []
    trouble = []

    def visit(table: Path, answers: Answers | None = None) -> ScriptedPerson:
        serving = served(session_of(table, answers), answers)
        page = serving.__enter__()
        tab = browser.new_page(viewport={"width": 1280, "height": 720})
        opened.append((tab, serving))
        tab.on("pageerror", lambda error: trouble.append(str(error)))
        tab.on("request", lambda request: trouble.append(request.url) if not is_ours(request.url, page.port) else None)
        return ScriptedPerson(tab, page.address)

    yield visit
    for tab, serving in opened:
        tab.close()
        serving.__exit__(None, None, None)
    assert trouble == []


def is_ours(url: str, port: int) -> bool:
    return urlsplit(url).netloc == f"127.0.0.1:{port}"


def press(person: ScriptedPerson, *keys: str) -> None:
    for key in keys:
        person.page.keyboard.press(key)
    person.seen()


def name_a_class(person: ScriptedPerson, key: str, name: str) -> None:
    """Opens the field of a key, `/` or `+`, and types into it: what is typed before it is open is for nobody."""
    person.seen()
    person.page.keyboard.press(key)
    person.page.wait_for_selector("#find[open]")
    person.page.keyboard.type(name)


def tell(person: ScriptedPerson, *events: dict[str, object]) -> None:
    """Gives the page events of the keyboard that no keyboard at hand makes, or makes so fast."""
    one = "document.body.dispatchEvent(new KeyboardEvent('keydown', {...event, bubbles: true}))"
    person.page.evaluate(f"(events) => events.forEach((event) => {one})", list(events))


def message(person: ScriptedPerson) -> str:
    return person.page.inner_text("#message")


def row_cells(table: Path) -> list[tuple[str, str]]:
    return list(zip(read_cells(table, "class").values(), read_cells(table, "state").values(), strict=True))


def test_200_images_are_labelled_by_the_keyboard_without_a_lost_key_or_one_too_many(visit, tmp_path):
    table = write_set(tmp_path / "set", rows_of(200), CLASSES)
    person = visit(table)
    script = {row["path"]: ("ant", "bee", "cat", "none", "skip")[(7 * n) % 5] for n, row in enumerate(rows_of(200))}
    keys = {"ant": "1", "bee": "2", "cat": "3", "none": "n", "skip": "s"}

    for path in script:  # shown in this order; pressed as fast as the browser takes keys, while others are being saved
        person.page.keyboard.press(keys[script[path]])
    person.page.wait_for_selector("body[data-left='0']")

    written = {"none": ("none of these", "labelled"), "skip": ("", "skipped")}
    with table.open(newline="") as text:
        found = {row["path"]: (row["class"], row["state"]) for row in csv.DictReader(text)}
    assert found == {path: written.get(word, (word, "labelled")) for path, word in script.items()}
    assert person.page.inner_text("#progress").startswith("160 labelled (40 none of these), 40 skipped, 0 of 200 left")


def test_a_person_who_looks_first_labels_what_is_shown(visit, tmp_path):
    table = write_set(tmp_path / "set", rows_of(12), CLASSES)
    truth = {row["path"]: CLASSES[n % 3] for n, row in enumerate(rows_of(12))}

    assert visit(table).label(truth.__getitem__) == 12

    assert read_cells(table, "class") == truth


def test_enter_accepts_the_guess_and_an_image_without_one_waits_for_a_class(visit, tmp_path):
    rows = [{**row, "guess": guess} for row, guess in zip(rows_of(3), ("bee", "", "ant"), strict=True)]
    table = write_set(tmp_path / "set", rows, CLASSES)
    person = visit(table)

    press(person, "Enter", "Enter")
    assert "no guess to accept" in message(person)
    press(person, "3", "Enter")

    assert [name for name, _ in row_cells(table)] == ["bee", "cat", "ant"]


def test_keys_that_were_typed_before_a_refusal_was_shown_label_nothing(visit, tmp_path):
    rows = [{**row, "guess": "bee" * (n != 1)} for n, row in enumerate(rows_of(4))]
    table = write_set(tmp_path / "set", rows, CLASSES)
    person = visit(table)

    tell(
        person, {"key": "Enter"}, {"key": "Enter"}, {"key": "1"}
    )  # the second image has no guess; 1 was meant for the third
    person.page.locator("#message", has_text="no guess to accept").wait_for()
    person.seen()

    assert [name for name, _ in row_cells(table)] == ["bee", "", "", ""]
    press(person, "2", "1")
    assert [name for name, _ in row_cells(table)] == ["bee", "bee", "ant", ""]


def test_decisions_are_taken_back_one_by_one_and_the_image_is_shown_again(visit, tmp_path):
    table = write_set(tmp_path / "set", rows_of(3), CLASSES)
    person = visit(table)

    press(person, "1", "2", "s", "Control+z", "Backspace")
    assert person.seen() == "images/001.png"
    assert row_cells(table) == [("ant", "labelled"), ("", ""), ("", "")]

    press(person, "3", "u", "u", "u")
    assert "no decision to take back" in message(person)
    assert row_cells(table) == [("", "")] * 3


def test_arrows_go_back_and_forth_and_a_label_can_be_replaced(visit, tmp_path):
    table = write_set(tmp_path / "set", rows_of(3), CLASSES)
    person = visit(table)

    press(person, "1", "ArrowLeft")
    assert person.seen() == "images/000.png"
    assert person.page.get_attribute("[data-class=ant]", "aria-pressed") == "true"
    press(person, "ArrowLeft")
    assert "first image" in message(person)
    press(person, "2", "ArrowRight", "ArrowRight")

    assert person.seen() == "images/002.png"
    assert [name for name, _ in row_cells(table)] == ["bee", "", ""]


def test_keys_of_another_alphabet_count_by_their_place_and_those_of_the_browser_do_not_count(visit, tmp_path):
    table = write_set(tmp_path / "set", rows_of(3), CLASSES)
    person = visit(table)

    tell(person, {"key": "1", "ctrlKey": True})
    tell(person, {"key": "s", "code": "KeyS", "altKey": True})
    tell(person, {"key": "s", "code": "KeyS", "metaKey": True})
    tell(person, {"key": "\u044b", "code": "KeyS"})  # where a Russian keyboard has it
    person.page.wait_for_selector("body[data-left='2']")
    tell(person, {"key": "N", "code": "KeyN"})  # with caps lock
    person.page.wait_for_selector("body[data-left='1']")

    assert row_cells(table) == [("", "skipped"), ("none of these", "labelled"), ("", "")]


def test_a_held_key_decides_once(visit, tmp_path):
    person = visit(write_set(tmp_path / "set", rows_of(3), CLASSES))

    person.page.keyboard.down("1")
    person.page.keyboard.down("1")  # which the browser reports as a repeat
    person.page.keyboard.up("1")
    person.seen()

    assert person.left == 2


def test_look_alikes_are_accepted_at_once_but_for_the_marked(visit, tmp_path):
    rows = [{**row, "guess": "bee", "cluster": str(n // 5)} for n, row in enumerate(rows_of(10))]
    table = write_set(tmp_path / "set", rows, CLASSES)
    (table.parent / "images" / "004.png").write_bytes(b"no picture")
    person = visit(table)

    press(person, "g")
    person.page.wait_for_selector("body[data-grid='5']")
    person.page.click(".thumb[title='images/001.png']")
    press(person, "ArrowRight", " ")  # on to the third
    press(person, "Enter")

    assert [name for name, _ in row_cells(table)] == ["bee", "", "", "bee", "", *[""] * 5]
    press(person, "u")
    assert row_cells(table) == [("", "")] * 10


def test_look_alikes_get_another_class_by_its_key(visit, tmp_path):
    rows = [{**row, "guess": "bee"} for row in rows_of(4)]
    table = write_set(tmp_path / "set", rows, CLASSES)
    person = visit(table)

    press(person, "g", "1", "Enter")

    assert [name for name, _ in row_cells(table)] == ["ant"] * 4


def test_several_classes_are_toggled_and_confirmed_also_none(visit, tmp_path):
    rows = [{"path": f"images/{n}.png", "classes": "", "guess": "bee" * (n == 0)} for n in range(3)]
    table = write_set(tmp_path / "set", rows, CLASSES)
    person = visit(table, SeveralClasses())

    press(person, "3", "Enter", "1", "1", "Enter", "1", "3", "3", "2", "Enter")

    assert list(read_cells(table, "classes").values()) == ["bee;cat", "", "ant;bee"]
    assert set(read_cells(table, "state").values()) == {"labelled"}


def test_numbers_are_typed_with_their_units_from_the_guess_on(visit, tmp_path):
    rows = [{"path": f"images/{n}.png", "guess": "0.1;2"} for n in range(3)]
    table = write_set(tmp_path / "set", rows)
    person = visit(table, Numbers(("angle", "speed"), ("rad", "m/s")))

    assert person.page.inner_text("#fields").split() == ["angle", "rad", "speed", "m/s"]
    press(person, "Enter")
    person.page.keyboard.type("-0.5")
    press(person, "Tab")
    person.page.keyboard.type("x3")
    press(person, "Enter")
    assert "speed: 'x3' is no number" in message(person)
    press(person, "n")
    assert "no classes; s leaves the image out" in message(person)
    assert person.page.is_hidden("[data-command=none]")
    press(person, "Backspace", "Backspace", "3", "Enter", "s")

    assert list(read_cells(table, "angle").values()) == ["0.1", "-0.5", ""]
    assert list(read_cells(table, "speed").values()) == ["2", "3", ""]
    assert list(read_cells(table, "state").values()) == ["labelled", "labelled", "skipped"]


def test_classes_without_a_key_are_found_by_typing_and_new_ones_added_on_the_page(visit, tmp_path):
    table = write_set(tmp_path / "set", rows_of(3), [f"sign {n:02}" for n in range(40)])
    person = visit(table)

    name_a_class(person, "/", "38")
    press(person, "Enter")
    name_a_class(person, "+", "Sign_38")
    person.page.keyboard.press("Enter")
    person.page.locator("#trouble", has_text="look alike").wait_for()
    person.page.fill("#name", "bridge")
    person.page.keyboard.press("Enter")
    person.page.wait_for_selector("#find", state="hidden")
    person.page.click("[data-class=bridge]")
    press(person, "Shift+S")  # the key of the 34th class, as its button says

    assert [name for name, _ in row_cells(table)] == ["sign 38", "bridge", "sign 33"]
    assert person.key_of("sign 33") == "Shift+s"


def test_names_that_are_markup_or_of_a_browsers_own_are_shown_as_they_are(visit, tmp_path):
    names = (
        "<img src=x onerror=alert(1)>",
        "__proto__",
        "constructor",
        "</script><script>alert(1)</script>",
        '"quoted"',
    )
    rows = [{**row, "guess": name, "bag": f"<b>{name}"} for row, name in zip(rows_of(5), names, strict=True)]
    table = write_set(tmp_path / "set", rows, names)
    person = visit(table)
    person.page.on("dialog", lambda dialog: pytest.fail(dialog.message))

    assert person.page.locator("#classes button > span:nth-of-type(1)").all_inner_texts() == list(names)
    assert f"bag <b>{names[0]}" in person.page.inner_text("#about")
    press(person, "Enter", "2", "3", "Enter", "5")

    assert tuple(read_cells(table, "class").values()) == names


def test_a_picture_that_cannot_be_read_is_said_and_skipped_and_never_labelled(visit, tmp_path):
    table = write_set(tmp_path / "set", [{**row, "guess": "ant"} for row in rows_of(3)], CLASSES)
    (table.parent / "images" / "000.png").write_bytes(b"GIF89a cut off")
    (table.parent / "images" / "001.png").unlink()
    person = visit(table)

    person.seen()
    assert "cannot be shown" in person.page.inner_text("#picture")
    press(person, "Enter", "1")
    assert "not labelled; s skips it" in message(person)
    press(person, "s")
    assert "is no file" in person.page.inner_text("#picture")
    press(person, "s", "Enter")

    assert row_cells(table) == [("", "skipped"), ("", "skipped"), ("ant", "labelled")]


def test_a_full_disk_is_said_and_the_decision_is_kept_once_there_is_room(visit, tmp_path, monkeypatch):
    table = write_set(tmp_path / "set", rows_of(3), CLASSES)
    person = visit(table)
    before = table.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "fsync", full)
        person.page.keyboard.press("2")
        person.page.locator("#message", has_text="disk full").wait_for()
        person.page.keyboard.press("1")  # of no effect until then
        assert table.read_bytes() == before
    person.page.wait_for_selector("body[data-left='2']")
    person.seen()

    assert row_cells(table) == [("bee", "labelled"), ("", ""), ("", "")]


def test_a_decision_about_an_image_that_went_meanwhile_is_refused_and_the_next_one_is_taken(
    visit, tmp_path, monkeypatch
):
    table = write_set(tmp_path / "set", rows_of(3), CLASSES)
    person = visit(table)
    mended = threading.Event()

    def full_until_mended(_: int) -> None:
        if not mended.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full_until_mended)
    person.page.keyboard.press("2")
    person.page.locator("#message", has_text="disk full").wait_for()
    write_table(table, rows_of(3)[1:])
    mended.set()
    person.page.locator("#progress", has_text="2 of 2 left").wait_for()
    while person.seen() != "images/001.png":  # once the page has followed
        person.page.wait_for_selector("body[data-shown='images/001.png']")
    press(person, "3")

    assert [name for name, _ in row_cells(table)] == ["cat", ""]


def test_a_second_tab_follows_the_first_and_so_does_each_what_another_program_writes(visit, tmp_path, browser):
    table = write_set(tmp_path / "set", rows_of(3), CLASSES)
    person = visit(table)
    tab = browser.new_page()
    follower = ScriptedPerson(tab, person.address)
    shown = follower.seen()

    press(person, "2")
    tab.wait_for_selector("body[data-left='2']")
    assert follower.seen() == shown  # under nobody's hands
    assert "labelled bee" in tab.inner_text("#guess")
    text = table.read_text().replace("images/001.png,,", "images/001.png,cat,")
    table.write_text("".join(f"{line}labelled\n" if "cat" in line else f"{line}\n" for line in text.splitlines()))
    for page in (tab, person.page):
        page.wait_for_selector("body[data-left='1']")
    tab.close()

    press(person, "3")
    assert [name for name, _ in row_cells(table)] == ["bee", "cat", ""]


def test_a_large_dark_picture_is_shown_smaller_zoomed_and_brightened(visit, tmp_path):
    table = write_set(tmp_path / "set", rows_of(1), CLASSES)
    Image.new("RGB", (4000, 3000), (20, 20, 20)).save(table.parent / "images" / "000.png")
    person = visit(table)
    size = "[...document.querySelectorAll('#picture img')].flatMap((one) => [one.naturalWidth, one.naturalHeight])"

    person.seen()
    assert person.page.evaluate(size) == [1600, 1200]
    press(person, "z")
    assert person.page.evaluate(size) == [4000, 3000]
    left = "document.getElementById('picture').scrollLeft"
    middle = person.page.evaluate(left)
    press(person, "ArrowRight")  # moves the picture, and is not for the next one
    person.page.wait_for_function(f"(middle) => {left} > middle", arg=middle)
    press(person, "z", "b")
    assert person.page.evaluate(size) == [1600, 1200]
    style = "getComputedStyle(document.querySelector('#picture img')).filter"
    assert person.page.evaluate(style) == "brightness(2)"
    press(person, "b", "b")
    assert person.page.evaluate(style) == "none"


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (390, 844)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_fits_the_screen_and_can_be_read_and_reached(visit, tmp_path, width, height, scheme):
    table = write_set(tmp_path / "set", [{**row, "guess": "ant"} for row in rows_of(2)], (*CLASSES, "a name " * 8))
    person = visit(table)
    person.page.set_viewport_size({"width": width, "height": height})
    person.page.emulate_media(color_scheme=scheme)
    person.seen()

    assert person.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert person.page.evaluate("document.querySelector('#picture img').getBoundingClientRect().height > 200")
    boxes = "['#picture', '#about', '#guess', '#classes', '.others'].map((one) => document.querySelector(one))"
    edges = person.page.evaluate(
        f"{boxes}.map((one) => one.getBoundingClientRect()).map((one) => [one.top, one.bottom])"
    )
    below = edges if width < 700 else edges[2:]
    assert all(upper[1] <= lower[0] for upper, lower in itertools.pairwise(below))
    texts = person.page.evaluate(CONTRASTS)
    assert len(texts) > 15
    assert {text: ratio for text, ratio in texts if ratio < 4.5} == {}  # WCAG 2.2, 1.4.3
    names = person.page.locator("button:visible").evaluate_all("all => all.map((one) => one.innerText.trim())")
    assert all(names)
    person.page.keyboard.press("Tab")
    assert person.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_button_under_the_focus_is_pressed_by_enter_and_after_a_click_enter_accepts_again(visit, tmp_path):
    table = write_set(tmp_path / "set", [{**row, "guess": "ant"} for row in rows_of(4)], CLASSES)
    person = visit(table)

    person.page.focus("[data-class=cat]")
    press(person, "Enter")
    person.page.click("[data-class=bee]")
    press(person, "Enter")
    person.page.focus("[data-command=skip]")
    press(person, "Enter")

    assert row_cells(table) == [("cat", "labelled"), ("bee", "labelled"), ("ant", "labelled"), ("", "skipped")]


def test_a_set_without_classes_says_so_and_gets_the_first_one_on_the_page(visit, tmp_path):
    table = write_set(tmp_path / "set", rows_of(2))
    person = visit(table)

    assert person.page.inner_text("#classes") == "There is no class yet; + adds one."
    name_a_class(person, "+", "ant")
    person.page.keyboard.press("Enter")
    person.page.wait_for_selector("#find", state="hidden")
    person.page.wait_for_selector("[data-class=ant]")
    press(person, "1")
    person.page.wait_for_selector("body[data-left='1']")

    assert [name for name, _ in row_cells(table)] == ["ant", ""]


def test_the_keys_are_shown_on_demand_and_the_token_is_not(visit, tmp_path):
    person = visit(write_set(tmp_path / "set", rows_of(1), CLASSES))

    person.page.keyboard.press("?")
    assert "take the last decision back" in person.page.inner_text("#help")
    person.page.keyboard.press("Escape")
    assert not person.page.is_visible("#help")
    assert "token" not in person.page.url


def test_no_script_of_the_page_takes_a_text_for_markup_or_code():
    scripts = sorted((ROOT / "training" / "label" / "templates").glob("*.js"))

    assert len(scripts) > 4
    for script in scripts:
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(", script.read_text()
        )


CONTRASTS = """
(() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => (v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4));
    return .2126 * x + .7152 * y + .0722 * z;
  };
  const ground = (one) => {
    for (let node = one; node; node = node.parentElement) {
      const found = rgb(getComputedStyle(node).backgroundColor);
      if (found.length === 3) return found;
    }
    return [255, 255, 255];
  };
  const holdsText = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  return [...document.querySelectorAll("body *")].filter((one) => one.offsetParent && holdsText(one)).map((one) => {
    const [a, b] = [light(rgb(getComputedStyle(one).color)), light(ground(one))].sort((x, y) => y - x);
    return [one.textContent.trim(), (a + .05) / (b + .05)];
  });
})()
"""
