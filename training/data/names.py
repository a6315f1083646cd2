"""What the names of folders and classes say: which part of a data set is meant, and which classes only look alike."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cnn_perception.errors import DataError
from cnn_perception.label_table import composed
from cnn_perception.label_text import NONE_OF_THESE

if TYPE_CHECKING:  # imports torch
    from training.data.records import Part


def _plain(text: str) -> str:
    """Returns a text in lower case, without accents."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in apart if unicodedata.category(character) != "Mn")


_NAMES_OF_PARTS: dict[Part, str] = {
    "train": "train training trn entrenamiento entrainement apprentissage addestramento treino treinamento egitim "
    "обучение обучающая 训练 訓練 学習 學習 학습 훈련",
    "val": "val valid validate validation dev eval holdout validierung validacion convalida validacao validatie "
    "dogrulama валидация 验证 驗證 検証 評価 검증",
    "test": "test testing tst prueba pruebas teste prova тест тестовая 测试 測試 テスト 테스트 시험",
}
_PART_WORDS = {_plain(word): part for part, words in _NAMES_OF_PARTS.items() for word in words.split()}
"""How the makers of data sets name their parts."""
_ADDED_WORDS = frozenset({
    "set", "data", "dataset", "images", "image", "imgs", "img", "split", "part", "samples", "daten", "bilder",
})  # fmt: skip
"""What they add to it, as in training_set and TrainImages."""
_JOINED_WORDS = "set data images imgs split sdaten daten satz 集 数据 数据集 データ セット 用 데이터"
"""What they write as one word with it, as in trainset and Trainingsdaten."""
_MISSING = frozenset({"nan", "null", "none", "n/a", "na", "#n/a", "nil", "-", "?", "unlabeled", "unlabelled"})
"""How programs write that there is no label, in lower case."""
_LONGEST = 60
"""Characters of a class name that fit a line of a report, or of a robot's picture."""
_JOINED = re.compile(
    f"({'|'.join(sorted(_PART_WORDS, key=len, reverse=True))})(?:{'|'.join(map(_plain, _JOINED_WORDS.split()))})"
)


def part_of(name: str, beside: Sequence[str] = ()) -> Part | None:
    """Returns the part that a folder or a cell names: `Train`, `seg_train`, `training_set`, `valid`, `test2017`.

    Args:
        name: Of the folder, or the cell.
        beside: Names of all folders that lie there; words that all of them have, such as `seg`, mean nothing.

    Returns:
        None where it is no part's name, as of `test tube`.
    """
    words = _words(name)
    common = set.intersection(*(set(_words(other)) for other in beside)) if len(beside) > 1 else set()
    telling = [word for word in words if word in _PART_WORDS or word not in _ADDED_WORDS | common]
    return _PART_WORDS.get(telling[0]) if len(telling) == 1 else None


def alike(names: Sequence[str]) -> list[str]:
    """Returns a line for each group of class names that only a computer tells apart.

    Case, blanks, underscores and hyphens, composed and decomposed accents, invisible characters, and zeros around a
    whole number do not count.
    """
    groups = defaultdict(list)
    for name in names:
        groups[as_seen(name)].append(name)
    return [
        f"the classes {', '.join(map(_shown_apart(group), group))} look alike and are told apart; give them one "
        "name if they are one"
        for group in groups.values()
        if len(group) > 1
    ]


def _shown_apart(names: Sequence[str]) -> Callable[[str], str]:
    """Returns how names are shown: with the codes of their characters, where nobody would see a difference."""
    return ascii if len({*map(composed, names)}) < len(names) else repr


def require_storable(names: Sequence[str], where: str) -> None:
    """Makes sure that a model file, messages and tables can hold the names of the classes.

    Raises:
        DataError: If one is no Unicode text, as of a folder from an old archive, holds a NUL, shows nothing, or is read
            as `NONE_OF_THESE`; names it.
    """
    for name in names:
        if as_seen(name) == NONE_OF_THESE:
            raise DataError(
                f"{where}: the class name {name!r} reads as {NONE_OF_THESE!r}: write it so where an image shows no "
                "class, or rename the class"
            )
        if "\0" in name or any(unicodedata.category(character) == "Cs" for character in name):
            raise DataError(f"{where}: the class name {_unreadable(name)}")
        if not re.sub(r"\s", "", _visible(name)):
            raise DataError(f"{where}: the class name {name!a} shows nothing; rename it before training")


def _unreadable(name: str) -> str:
    """Returns a name that is no Unicode text, why not, and what to do."""
    try:
        content = name.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # half of a character, as an escape in JSON can say it
        return f"{name!a} is no UTF-8 text; rename it before training"
    try:
        text = "" if "\0" in name else content.decode()
    except UnicodeDecodeError:
        text = ""
    if text:
        return (
            f"{text!a} cannot be read in this environment, whose encoding of file names is "
            f"{sys.getfilesystemencoding()}; set PYTHONUTF8=1"
        )
    return f"{content!r} is no UTF-8 text; rename it before training"


def is_missing(cell: str) -> bool:
    """Returns whether a text is how programs write that nothing is known."""
    return cell.strip().casefold() in _MISSING


def odd(names: Sequence[str]) -> list[str]:
    """Returns a line for each class name that is trained, but will not be read or written easily by people.

    Tables lose blanks around a name, pages and terminals do not show what is invisible or changes the direction of
    writing, and a name may be too long for a line.
    """
    return [
        f"the class name {name[:_LONGEST]!a} {problem}; rename it before training if that is not meant"
        for name in names
        if (problem := _oddity(name))
    ]


def like_several(names: Sequence[str], only_one: bool) -> list[str]:
    """Returns a line for each class name that reads as several names.

    Args:
        names: Of the classes.
        only_one: Whether an image has one of them; else those with commas were not told apart.
    """
    known = frozenset(names)
    cure = "name the column 'classes' if an image may have several" if only_one else "write ';' between several"
    return [
        f"the class name {name[:_LONGEST]!r} reads as several names, and is taken as one; {cure}"
        for name in names
        if _is_like_several(name, known, only_one)
    ]


def _is_like_several(name: str, known: frozenset[str], only_one: bool) -> bool:
    if not only_one:
        return "," in name
    pieces = [piece.strip("'\"") for piece in re.split(r"[,;|\s]+", name.strip("[]"))]
    is_list = name.startswith("[") and name.endswith("]")
    return is_list or any(mark in name for mark in ";|") or (len(pieces) > 1 and known.issuperset(pieces))


def _oddity(name: str) -> str:
    if is_missing(name):
        return "is how programs write that there is no label: leave such cells empty, and move such folders away"
    if name != name.strip():
        return "begins or ends with a blank, which tables of labels lose"
    if not name.isprintable():
        return "holds characters that cannot be seen"
    return f"has {len(name)} characters" if len(name) > _LONGEST else ""


def _visible(name: str) -> str:
    return "".join(character for character in name if unicodedata.category(character) not in ("Cf", "Cc"))


def _words(name: str) -> list[str]:
    """Returns the words of a name in lower case, those that are joined with a part's taken apart; numbers are none."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)  # TrainImages
    words = re.findall(r"[^\W\d_]+", _plain(apart))
    return [joined[1] if (joined := _JOINED.fullmatch(word)) else word for word in words]


def as_seen(name: str) -> str:
    """Returns what a person sees of a name."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    visible = "".join(character for character in folded if unicodedata.category(character) != "Cf")
    if number := re.fullmatch(r"\s*0*(\d+)(?:\.0*)?\s*", visible):  # a number, however a spreadsheet writes it
        return number[1]
    return re.sub(r"[\s_-]+", " ", visible).strip()
