"""The promise: what is passed to submit_script arrives in the script, equal in value and in type."""

import ast
import collections
import enum
import json
import math
import os
import pathlib
import pickle
import subprocess
import sys

import numpy
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies

from sandbox import compiled_library, room
from values import NASTY, same, texts, values

pytestmark = pytest.mark.thorough
# one copy of grid.py serves all examples of a test; how many there are is told by the profile (tests/conftest.py)
many = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def there_and_back(args):
    """What a job gets for these arguments."""
    return room("values").from_line(room("values").to_line(args))


@many
@given(strategies.lists(values, max_size=4))
@example(NASTY)
@example([{"!tuple": [1]}, {"!x": 1}, {"!": None}, {"!a": 1, "!b": 2}, {"!dict": []}, {1: {"!str": "61"}}])
def test_every_list_of_values_survives_the_task_file(grid, args):
    line = room("values").to_line(args)
    assert len(line.splitlines()) == 1 and "\0" not in line, "a value broke the line, in Python's eyes or a reader's"
    assert same(room("values").from_line(line), args)
    line.encode("utf-8")
    assert isinstance(json.loads(line), list), "it is no JSON"


@many
@given(strategies.lists(values, max_size=4))
def test_what_json_has_a_form_for_is_written_as_any_json_program_writes_it(grid, args):
    """Tags are only for what JSON lacks."""

    def plain(value):
        if isinstance(value, list):
            return all(map(plain, value))
        if isinstance(value, dict):
            tag = len(value) == 1 and next(iter(value)) if value else ""
            return (
                all(isinstance(k, str) and plain(k) for k in value)
                and all(map(plain, value.values()))
                and not (isinstance(tag, str) and tag.startswith("!"))
            )
        if isinstance(value, float):
            return math.isfinite(value)
        if isinstance(value, str):
            return value.isascii() or value == value.encode("utf-8", "replace").decode()
        return value is None or isinstance(value, bool) or isinstance(value, int) and value.bit_length() < 2000

    args = [value for value in args if plain(value)]
    assert same(json.loads(room("values").to_line(args)), args)


@many
@given(values)
def test_every_value_survives_as_a_word(grid, value):
    word = room("values").to_word(value)
    assert same(grid.typecast(word), value)
    if isinstance(value, str):
        assert str(word) == value, "a text is not the plain word that other parsers expect"
    elif not isinstance(value, complex):
        assert str(word) == str(value) or isinstance(value, int), "the word is not what Python prints for the value"
    if type(word) is str:
        assert same(grid.typecast(str(word)), value)


@many
@given(values)
@example([0.1, [64, 32], "a b"])
def test_a_word_is_an_ordinary_str_wherever_that_tells_the_value(grid, value):
    """Much of the ecosystem asks for exactly str: yaml, Cython, msgpack, sys.intern."""

    def holds_complex(value):
        if isinstance(value, dict):
            return any(map(holds_complex, [*value, *value.values()]))
        return isinstance(value, complex) or isinstance(value, (list, tuple, set)) and any(map(holds_complex, value))

    word = room("values").to_word(value)
    try:
        enough = same(grid.typecast(str(value)), value) and len(str(value)) < room("values").LONG
    except ValueError:  # a very long int, which Python does not write
        enough = False
    if enough and not holds_complex(value):
        assert type(word) is str
    assert type(pickle.loads(pickle.dumps(word))) is str, "a child process gets something else than words"


@many
@given(texts | strategies.text("[](){},:'\"\\bux0123456789.eE+-_jJ naif\tTrue#"))
def test_typed_words_mean_what_they_mean_in_python_or_stay_text(grid, word):
    value = grid.typecast(word)
    if same(value, word):  # taken for text: then it is one, or of the few spellings that are text here
        return
    try:
        assert same(value, ast.literal_eval(word.strip(" \t\n\r\f")))
    except (ValueError, SyntaxError):
        assert any(name in word for name in ("inf", "nan")), f"{word!r} is no literal but became {value!r}"


@many
@given(values)
def test_what_python_writes_for_a_value_reads_as_that_value_when_typed(grid, value):
    """As `python script.py "$(python -c 'print(repr(x))')"`; but for the sign of a zero in a complex number."""

    def without_signs(value):
        if isinstance(value, complex):
            return complex(value.real + 0.0, value.imag + 0.0)
        if isinstance(value, dict):
            return {without_signs(key): without_signs(one) for key, one in value.items()}
        return type(value)(map(without_signs, value)) if isinstance(value, (list, tuple, set)) else value

    try:
        word = repr(value)
    except ValueError:  # Python does not write very long ints
        return
    value = without_signs(value)
    assert same(without_signs(grid.typecast(word)), value)


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
        *[("infj", complex(0, float("inf"))), ("(1+nanj)", complex(1, float("nan"))), ("4 # x", 4), ("0x1e5", 0x1E5)],
        *[("-0x1e5", -0x1E5), ("1E5", 1e5), ("007.5", 7.5), ("-007", "-007"), ("0_7", "0_7"), ("1_000", 1000)],
        *[("007", "007"), ("...", "..."), ("[4,", "[4,"), ("relu", "relu"), ("[relu]", "[relu]")],
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
    assert same(there_and_back(args), [0.5, 7, True, "a", "a b/c", [2.0]])


def test_an_int_longer_than_python_writes_survives(grid):
    assert there_and_back([10**5000, [True, -(10**5000)]]) == [10**5000, [True, -(10**5000)]]
    assert grid.typecast(room("values").to_word(10**5000)) == 10**5000


def test_deep_nesting_survives(grid):
    deep = [(1,)]
    for _ in range(400):
        deep = [deep]
    assert there_and_back([deep, None]) == [deep, None]


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
            room("values").to_line(args)
        assert isinstance(caught.value, TypeError) and isinstance(caught.value, grid.GridError)


def test_an_open_file_is_refused_with_advice(grid):
    with open(__file__) as file, pytest.raises(grid.ArgumentError, match="argument 1 holds .*TextIOWrapper.* its path"):
        room("values").to_line([file])


@pytest.mark.parametrize("args", ["text", 3, None, {"a": 1}, numpy.zeros(2), iter([])])
def test_args_must_be_a_list(grid, args):
    with pytest.raises(grid.ArgumentError, match="args must be a list of arguments, such as"):
        room("values").to_line(args)


@pytest.mark.parametrize(
    "line",
    [
        *("", "{}", "3", '"abc"', "null", "[1", '{"a": 1}', "[1]x", "[" * 100_000),
        *('[{"!nothing": 1}]', '[{"!int": 5}]', '[{"!bytes": "x"}]', '[{"!tuple": 3}]', '[{"!complex": [1, 2, 3]}]'),
        *('[{"!set": [[1]]}]', '[{"!dict": [[1]]}]', '[{"!str": "ff"}]', '[{"!float": "x"}]'),
    ],
)
def test_a_line_that_grid_did_not_write_is_an_error_and_never_other_arguments(grid, line):
    with pytest.raises(ValueError):
        room("values").from_line(line)


LONG = {
    "digits and a letter": "1" * 100_000 + "k",
    "digits": "1" * 1_000_000,
    "underscores": "1_" * 100_000 + "k",
    "many dots": "1." * 100_000,
    "a fraction": "111." + "1" * 100_000 + "k",
    "a range": "1" * 50_000 + "-" + "1" * 50_000 + "k",
    "signs": "-" * 100_000 + "1",
    "signs in parentheses": "(" + "-" * 100_000 + "1)",
    "a sum": "(1" + "+1" * 100_000 + ")",
    "brackets": "[" * 100_000,
    "brackets that close": "[" * 100_000 + "]" * 100_000,
    "braces with keys": "{1:" * 50_000 + "2" + "}" * 50_000,
    "backslashes": "'" + "\\" * 100_000,
    "quotes": "'" * 100_001,
    "commas": "," * 100_000,
    "attributes": "[a" + ".a" * 100_000 + "]",
    "spaces": " " * 1_000_000 + "x",
    "names of numbers": "[" + "nan," * 20_000 + "nan" * 20_000,
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("word", LONG.values(), ids=LONG)
def test_no_word_takes_long(grid, word):
    """A quadratic way to read it would take minutes."""
    assert grid.typecast(word) == word
    assert there_and_back([word]) == [word] and grid.typecast(room("values").to_word(word)) == word


ECOSYSTEM = """
import json, os, pickle, subprocess, sys
from grid import typecast

if __name__ == "__main__":
    import multiprocessing
    import yaml
    print([type(word) is str for word in sys.argv])
    print(yaml.safe_dump(sys.argv[1:]).replace("\\n", " "))
    print([sys.intern(word) for word in sys.argv[1:]] == sys.argv[1:])
    print(typecast())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply(typecast))
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-c", "import sys; from grid import typecast; print(typecast())", *sys.argv[1:]])
"""


def test_libraries_that_ask_for_a_str_and_children_see_what_they_see_when_it_is_run_directly(sandbox):
    sandbox.write("worker.py", ECOSYSTEM)
    args = [0.1, 42, None, True, [64, 32], {"a": (1,)}, "relu", "a b", "--x", float("inf")]
    words = [str(value) for value in args]
    environ = os.environ | {"PYTHONPATH": str(sandbox.path)}
    direct = subprocess.run([sys.executable, "worker.py", *words], capture_output=True, text=True, env=environ)
    assert direct.stdout.splitlines()[-1] == direct.stdout.splitlines()[-2] == repr(args)
    ended = sandbox.run("worker.py", args, f"export PYTHONPATH=$PWD; PATH={os.path.dirname(sys.executable)}:$PATH")
    assert (ended.out, ended.err) == (direct.stdout, direct.stderr)


def test_only_a_text_that_reads_as_another_value_carries_it(sandbox):
    sandbox.write(
        "worker.py", "import sys; from grid import typecast; print([type(w) is str for w in sys.argv], typecast())"
    )
    ended = sandbox.run("worker.py", [42, "42", "None", "[1,2]", "x"])
    assert ended.out == "[True, True, False, False, False, True] [42, '42', 'None', '[1,2]', 'x']\n"


def test_a_script_that_only_wants_typecast_needs_no_more_than_the_library(tmp_path):
    """Copied beside a script somewhere, run with words typed by hand."""
    (tmp_path / "worker.py").write_text("from grid import typecast; print(typecast())")
    command = [sys.executable, str(tmp_path / "worker.py"), "4.2", "[1, nan]", "4 # x", "007", "a b"]
    environ = os.environ | {"PYTHONPATH": str(compiled_library())}
    printed = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert (printed.stdout, printed.stderr) == ("[4.2, [1, nan], 4, '007', 'a b']\n", "")
