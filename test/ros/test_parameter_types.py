"""Owns: which values of parameters are taken for another type, and what is written for the others."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

import yaml
from hypothesis import given
from hypothesis import strategies as st
from rcl_interfaces.msg import Parameter as ParameterMessage
from rclpy.parameter import Parameter, get_parameter_value

from cnn_perception.errors import ConfigError
from cnn_perception.ros.parameter_types import as_type

Type = Parameter.Type
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=300),
    st.lists(st.text(max_size=20), min_size=1, max_size=50),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=50),
    st.lists(st.floats(), min_size=1, max_size=50),
    st.lists(st.booleans(), min_size=1, max_size=50),
)
WANTED = [Type.BOOL, Type.INTEGER, Type.DOUBLE, Type.STRING, Type.STRING_ARRAY]


@pytest.mark.parametrize("number", [0, 10, -3, 2**53])
def test_a_whole_number_is_taken_for_a_float(number: int):
    taken = as_type(Parameter("x", value=number), Type.DOUBLE)
    assert (taken.type_, taken.value, type(taken.value)) == (Type.DOUBLE, float(number), float)


@given(value=VALUES, wanted=st.sampled_from(WANTED))
def test_where_a_number_is_taken_for_a_text_a_whole_number_is_and_nothing_else(value: object, wanted: Parameter.Type):
    parameter = Parameter("x", value=value)
    if type(value) is int and wanted == Type.STRING:
        taken = as_type(parameter, wanted, takes_number=True)
        assert (taken.name, taken.type_, taken.value) == ("x", Type.STRING, f"{value:d}")
    else:
        assert _outcome(parameter, wanted, takes_number=True) == _outcome(parameter, wanted)


def _outcome(parameter: Parameter, wanted: Parameter.Type, **options: bool) -> tuple[object, ...]:
    try:
        taken = as_type(parameter, wanted, **options)
    except ConfigError as error:
        return (str(error),)
    return (taken.type_, repr(taken.value))


@given(value=VALUES, wanted=st.sampled_from(WANTED))
def test_any_value_is_taken_as_it_is_or_refused_in_one_short_line(value: object, wanted: Parameter.Type):
    parameter = Parameter("x", value=value)
    if parameter.type_ == wanted:
        assert as_type(parameter, wanted) is parameter
    elif type(value) is int and wanted == Type.DOUBLE:
        assert as_type(parameter, wanted).value == float(value)
    else:
        with pytest.raises(ConfigError, match=r"^parameter x is [^\n]{1,500}$"):
            as_type(parameter, wanted)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (10.0, Type.INTEGER),
        (-2.0, Type.INTEGER),
        ("10", Type.INTEGER),
        ("0.5", Type.DOUBLE),
        ("10", Type.DOUBLE),
        ("True", Type.BOOL),
        ("false", Type.BOOL),
        (0, Type.BOOL),
        (1, Type.BOOL),
        (0, Type.STRING),
        (1.5, Type.STRING),
        (True, Type.STRING),
        ("cpu", Type.STRING_ARRAY),
        ([1, 2], Type.STRING_ARRAY),
        ([True, False], Type.STRING_ARRAY),
    ],
)
def test_what_is_said_to_be_written_is_of_the_wanted_type_in_yaml(value: object, wanted: Parameter.Type):
    with pytest.raises(ConfigError, match="write ") as refused:
        as_type(Parameter("x", value=value), wanted)
    advice = str(refused.value).partition("; write ")[2]
    written = advice.removeprefix("it in quotes: ").partition(" in a YAML file")[0].removesuffix(", without quotes")
    as_type(Parameter("x", value=yaml.safe_load(written)), wanted)


@pytest.mark.parametrize("wanted", WANTED)
def test_empty_list_as_the_command_line_sends_it_is_not_said_to_be_written_as_it_was(wanted: Parameter.Type):
    """`ros2 param set NODE NAME []` sends what this function of rclpy's makes of the text."""
    message = ParameterMessage(name="x", value=get_parameter_value("[]"))
    with pytest.raises(ConfigError, match=r"^parameter x has no value, or an empty list, .*; leave it out"):
        as_type(Parameter.from_parameter_msg(message), wanted)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan", "high", [1.0], "9" * 400])
def test_what_is_no_number_has_no_advice(value: object):
    with pytest.raises(ConfigError, match=r"a whole number is wanted$"):
        as_type(Parameter("x", value=value), Type.INTEGER)
