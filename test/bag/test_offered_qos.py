"""Owns: with which QoS a bag is played, told from what recorders of several releases write into metadata.yaml.

Leaves to others: what is read of a bag (test_reader), whether a node gets it (test_live_replay).
"""

from __future__ import annotations

import pytest
import yaml
from tiny_bag import edit, folder

from cnn_perception.bag.offered_qos import OfferedQos, offered_qos

RELIABLE = {"reliability": "reliable", "durability": "volatile", "history": "keep_last", "depth": 5}
BEST_EFFORT = RELIABLE | {"reliability": "best_effort", "depth": 7}
LATCHED = RELIABLE | {"durability": "transient_local", "depth": 1}


def offering(tmp_path, offered):
    """A bag whose metadata says this of /camera."""
    bag = folder(tmp_path / "bag")

    def change(entries):
        entries[0]["topic_metadata"]["offered_qos_profiles"] = offered
        return entries

    edit(bag, topics_with_message_count=change)
    return bag


@pytest.mark.parametrize("as_text", [True, False], ids=["text of Humble", "list of Jazzy"])
@pytest.mark.parametrize(
    ("profiles", "expected"),
    [
        ([RELIABLE], OfferedQos(True, False, 5, True)),
        ([BEST_EFFORT], OfferedQos(False, False, 7, True)),
        ([RELIABLE, BEST_EFFORT], OfferedQos(False, False, 7, True)),
        ([LATCHED], OfferedQos(True, True, 1, True)),
        ([LATCHED, RELIABLE], OfferedQos(True, False, 5, True)),
        ([{"reliability": 2, "durability": 1, "depth": 3}], OfferedQos(False, True, 3, True)),
        ([], OfferedQos()),
    ],
    ids=["reliable", "best effort", "both", "latched", "latched and not", "numbers", "none"],
)
def test_what_all_publishers_offer_is_offered_again(tmp_path, profiles, expected, as_text):
    bag = offering(tmp_path, yaml.safe_dump(profiles) if as_text else profiles)

    assert offered_qos(bag, "/camera") == expected


@pytest.mark.parametrize("nonsense", ["[", "5", "- 5", "a: [b", ["x"], 7, "- {depth: 999999999999999999999}"])
def test_nonsense_in_its_place_is_the_default_and_no_error(tmp_path, nonsense):
    found = offered_qos(offering(tmp_path, nonsense), "/camera")

    assert (found.is_reliable, found.is_latched, found.depth) == (True, False, 0)


def test_a_single_file_and_another_topic_say_nothing(tmp_path):
    bag = offering(tmp_path, [BEST_EFFORT])

    assert offered_qos(bag, "/other") == OfferedQos()
    assert offered_qos(bag / "bag.mcap", "/camera") == OfferedQos()
    assert "by default" in OfferedQos().in_words()
    assert OfferedQos(False, True, 1, True).in_words() == "best effort, transient local"
