"""Values to send through a grid: strategies that make them, and what it means that two are the same."""

import struct

from hypothesis import strategies

# Texts that have broken such programs: shell words, options, numbers in disguise, invisible and right-to-left characters.
NASTY = [
    *(
        "",
        " ",
        "  two  ",
        "it's",
        'a "b"',
        "`touch pwned`",
        "$(touch pwned)",
        "$HOME",
        "${x}",
        "a; touch pwned",
        "a && b",
    ),
    *(
        "a\nb",
        "\n",
        "a\tb",
        "\r\n",
        "\0",
        "a\0b",
        "\\",
        "\\n",
        "\\\n",
        "a\\",
        "*",
        "?",
        "[a-z]",
        "~",
        "!",
        "#",
        "# x",
        "%d",
    ),
    *(
        "-",
        "--",
        "-x",
        "--help",
        "@",
        "@file",
        "=",
        "a=b",
        "+",
        "|",
        "&",
        ">",
        "<",
        "a,b",
        "a:b",
        "/",
        "..",
        "%",
        "^",
        "{}",
    ),
    *(
        "42",
        "4.2",
        "007",
        "1e5",
        "0x1F",
        "1_000",
        "[4,2]",
        "4,2",
        "(1,)",
        "{'a': 1}",
        "True",
        "None",
        "nan",
        "-inf",
        "...",
    ),
    *(
        "set()",
        "'quoted'",
        '"quoted"',
        "b'x'",
        "4 # x",
        "null",
        "true",
        "NaN",
        "Infinity",
        "1j",
        " 42",
        "42 ",
        "\u0664\u0662",
    ),
    *(
        "\u00fc",
        "e\u0301",
        "\U0001f642",
        "\U0001f468\u200d\U0001f469",
        "\u05e9\u05dc\u05d5\u05dd",
        "\u202eabc",
        "\u2028",
        "\x85",
    ),
    *(
        "\ufeff",
        "\u00a0",
        "\x7f",
        "\x1b[31m",
        "\ud83d",
        "\ude00\ud83d",
        "\ud83d\ude00",
        "'\ud83d\"",
        "\udc80",
        "x" * 5000,
    ),
]

texts = strategies.sampled_from(NASTY) | strategies.text(strategies.characters(exclude_categories=()))
scalars = (
    texts
    | strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.integers(-(2**2100), 2**2100)  # from 2**2000 on they are written in base 16
    | strategies.floats()
    | strategies.complex_numbers()
    | strategies.binary()
)
keys = strategies.recursive(
    scalars, lambda inner: strategies.tuples(inner) | strategies.tuples(inner, inner), max_leaves=3
)
values = strategies.recursive(
    scalars,
    lambda inner: strategies.lists(inner)
    | strategies.lists(inner).map(tuple)
    | strategies.dictionaries(keys, inner)
    | strategies.sets(keys),
    max_leaves=12,
)


def same(one, other):
    """Equal in value and type all the way down: nan is nan, -0.0 is not 0.0, True is not 1, dicts keep their order."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one != one and other != other or struct.pack("d", one) == struct.pack("d", other)
    if isinstance(one, complex):
        return same([one.real, one.imag], [other.real, other.imag])
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, set):
        rest = list(other)
        for item in one:
            match = next((i for i, candidate in enumerate(rest) if same(item, candidate)), None)
            if match is None:
                return False
            del rest[match]
        return not rest
    return one == other
