"""The promise: what is passed to submit_script arrives in the script, equal in value and in type."""

import ast
import collections
import enum
import pathlib

import numpy
import pytest
from hypothesis import example, given, settings, strategies

from values import NASTY, same, texts, values


@settings(max_examples=3000, deadline=None)
@given(strategies.lists(values, max_size=4))
@example(NASTY)
def test_every_list_of_values_survives_the_task_file(grid, args):
    line = grid._task_line(args)
    assert len(line.encode("utf-8").split(b"\n")) == 1, "a value broke the line"
    assert same(grid._read_line(line), args)
    assert same(grid._read(line), args), "the text means something else as JSON than as Python"


@settings(max_examples=2000, deadline=None)
@given(values)
def test_every_value_survives_as_a_word(grid, value):
    word = grid.Word(value)
    assert same(grid.typecast(word), value)
    if isinstance(value, str):
        assert str(word) == value, "a text is not the plain word that other parsers expect"
    else:
        assert same(grid.typecast(str(word)), value), "the word is not what Python writes for the value"


@settings(max_examples=2000, deadline=None)
@given(texts | strategies.text("[](){},:'\"\\bux0123456789.eE+-_jJ naif\tTrue"))
def test_typed_words_mean_what_they_mean_in_python_or_stay_text(grid, word):
    value = grid.typecast(word)
    if same(value, word):  # taken for text: then it is one, or of the few spellings that are text here
        return
    try:
        assert same(value, ast.literal_eval(word))
    except (ValueError, SyntaxError):
        assert any(name in word for name in ("inf", "nan", "0j")), f"{word!r} is no literal but became {value!r}"


@pytest.mark.parametrize(
    "word, value",
    [
        *[
            ("4.2", 4.2),
            ("42", 42),
            ("[4,2]", [4, 2]),
            ("[4, 2]", [4, 2]),
            ("4,2", (4, 2)),
            ("-5", -5),
            ("1e-3", 0.001),
        ],
        *[("True", True), ("None", None), ("'42'", "42"), ("{'a': [1, (2,)]}", {"a": [1, (2,)]}), ("set()", set())],
        *[("inf", float("inf")), ("nan", float("nan")), ("[nan, -inf]", [float("nan"), -float("inf")])],
        *[("007", "007"), ("...", "..."), ("4 # x", "4 # x"), ("[4,", "[4,"), ("relu", "relu"), ("[relu]", "[relu]")],
        *[("", ""), ("-", "-"), ("--lr", "--lr"), ("a b", "a b"), ("infinity", "infinity"), ("{[1]}", "{[1]}")],
        *[("1 2", "1 2"), ("{1:2,3}", "{1:2,3}"), ("[1}", "[1}"), ("\u0664", "\u0664"), ("[" * 5000, "[" * 5000)],
    ],
)
def test_typecast_reads_literals_and_leaves_the_rest(grid, word, value):
    assert same(grid.typecast(word), value)
    assert same(grid.typecast([word, 3]), [value, 3])


def test_numbers_of_numpy_and_paths_travel_as_their_plain_values(grid):
    args = [
        numpy.float32(0.5),
        numpy.int64(7),
        numpy.bool_(True),
        numpy.str_("a"),
        pathlib.Path("a b/c"),
        [numpy.float64(2)],
    ]
    assert same(grid._read_line(grid._task_line(args)), [0.5, 7, True, "a", "a b/c", [2.0]])


def test_an_int_longer_than_python_writes_survives(grid):
    assert grid._read_line(grid._task_line([10**5000, [True, -(10**5000)]])) == [10**5000, [True, -(10**5000)]]
    assert grid.typecast(str(grid.Word(10**5000))) == 10**5000


def test_deep_nesting_survives(grid):
    deep = [(1,)]
    for _ in range(400):
        deep = [deep]
    assert grid._read_line(grid._task_line([deep, None])) == [deep, None]


class Colour(enum.IntEnum):
    RED = 1


Point = collections.namedtuple("Point", "x y")
endless = []
endless.append(endless)


@pytest.mark.parametrize(
    "value, kind",
    [
        *[
            (lambda: 0, "function"),
            (object(), "object"),
            (len, "builtin"),
            (Colour.RED, "Colour"),
            (Point(1, 2), "Point"),
        ],
        *[
            (numpy.zeros(3), "ndarray"),
            (numpy.longdouble(1), "longdouble"),
            (..., "ellipsis"),
        ],
        *[
            (frozenset(), "frozenset"),
            (range(3), "range"),
            (collections.OrderedDict(), "OrderedDict"),
            (endless, "itself"),
        ],
        *[(bytearray(b"x"), "bytearray"), (numpy.datetime64("2020"), "date"), (ValueError, "type")],
    ],
)
def test_what_cannot_travel_is_refused_by_name(grid, value, kind):
    for args in ([1, value], [1, {"model": [value]}]):
        with pytest.raises(grid.ArgumentError, match=rf"(?s)argument 2 .*{kind}") as caught:
            grid._task_line(args)
        assert isinstance(caught.value, TypeError) and isinstance(caught.value, grid.GridError)


def test_an_open_file_is_refused_with_advice(grid):
    with open(__file__) as file, pytest.raises(grid.ArgumentError, match="argument 1 holds .*TextIOWrapper.* its path"):
        grid._task_line([file])


@pytest.mark.parametrize("args", ["text", 3, None, {"a": 1}, numpy.zeros(2), iter([])])
def test_args_must_be_a_list(grid, args):
    with pytest.raises(grid.ArgumentError, match="pass a list of arguments"):
        grid._task_line(args)
