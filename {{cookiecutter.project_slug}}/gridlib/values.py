"""Values as text and back: the JSON line of a task, and words of a command line.

A line is plain JSON wherever JSON has a form for the value. What it has none for is an object with one key:

    {"!tuple": [1, 2]}   {"!set": [1]}   {"!dict": [[1, "a"]]}   {"!bytes": "00ff"}   {"!complex": [0.0, 1.0]}
    {"!float": "nan"}    {"!int": "0x1f..."} (too long for JSON)    {"!str": "eda080"} (half a character, in UTF-8)

Every task imports this file: what is not always needed is imported where it is used.
"""

from __future__ import annotations

import sys

from gridlib.errors import ArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

LONG = 10_000  # characters of a word that would take too long to read as a literal

# --- Words of a command line ------------------------------------------------------------------------------------------


def typecast(words: str | Iterable | None = None) -> Any:
    """Turn command-line words back into Python values; see grid.typecast."""
    if words is None:
        words = sys.argv[1:]
    if not isinstance(words, str):
        return [typecast(word) if isinstance(word, str) else word for word in words]
    try:
        return words.grid_value  # type: ignore[attr-defined]  # a Word, perhaps of another copy of this file
    except AttributeError:
        return read_word(words)


class Word(str):
    """A word of sys.argv that carries the value it stands for, where its text would be read as another one."""

    grid_value: Any

    def __new__(cls, text: str, value: Any) -> Word:
        word = super().__new__(cls, text)
        word.grid_value = value
        return word

    def __reduce__(self):
        return str, (str(self),)  # an ordinary word in other processes, which may not know this class


def to_word(value: Any) -> str:
    """Return the word of sys.argv for a value: a plain str wherever typecast() of it gives the value back."""
    if type(value) is str:
        return value if read_word(value) is value else Word(value, value)
    try:
        text = str(value)
    except ValueError:  # Python refuses to write very long ints, but not in base 16
        return Word(to_line([value]), value)
    return text if len(text) < LONG and _reads_back(value) else Word(text, value)


def _reads_back(value: Any) -> bool:
    kind = type(value)
    if kind in (list, tuple, set):
        return all(map(_reads_back, value))
    if kind is dict:
        return all(map(_reads_back, value)) and all(map(_reads_back, value.values()))
    return kind is not complex  # typed, it loses the sign of a zero


def read_word(word: str) -> Any:
    """Return the value of the Python literal that a word is, also of inf and nan; else the very same word."""
    text = word.strip(" \t\n\r\f")
    if text in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[text]
    unsigned = text[1:] if text[:1] in ("+", "-") else text
    if unsigned in ("inf", "nan", "infj", "nanj"):
        return complex(text) if text[-1] == "j" else float(text)
    if unsigned[:1].isdigit() or unsigned[:1] == ".":
        if text.isascii() and len(text) < 5000:  # longer ones Python refuses to read
            try:
                # without a point or an exponent it is an int, or none at all: 007
                return float(text) if any(char in text for char in ".eE") and "x" not in text.lower() else int(text, 0)
            except ValueError:
                pass
    elif not any(char in text for char in "[({'\","):
        return word  # an ordinary word, or none at all
    return _literal(text, word)


def _literal(text: str, word: str) -> Any:
    import ast
    import warnings

    class Floats(ast.NodeTransformer):
        """inf and nan, and the imaginary ones, which are names to Python."""

        def visit_Name(self, node):
            kind = {"inf": float, "nan": float, "infj": complex, "nanj": complex}.get(node.id)
            return ast.Constant(kind(node.id)) if kind else node

        def visit_Constant(self, node):
            if node.value is ...:
                raise ValueError("an ellipsis is a literal to Python")
            return node

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an unknown escape such as \d, which means itself
            value = ast.literal_eval(Floats().visit(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return word
    return word if type(value) is str and value == word else value


# --- The line of a task -----------------------------------------------------------------------------------------------

_PLAIN = frozenset({str, int, float, bool, type(None)})


def to_line(args: Any) -> str:
    """Return the line of tasks.jsonl for a list of arguments.

    Raises:
        ArgumentError: it is no list, or a value cannot be sent.
    """
    if type(args) not in (list, tuple):
        raise ArgumentError(f"args must be a list of arguments, such as [0.1, [64, 32]], not {short(args)}")
    import json

    try:
        try:
            line = json.dumps(_tagged_args(args, False), ensure_ascii=False, allow_nan=False)
            line.encode()
        except ValueError:  # inf, nan, a very long int, half a character: rare, so only now every value is looked at
            line = json.dumps(_tagged_args(args, True), ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise ArgumentError("an argument is nested too deeply, or contains itself") from None
    return line if line.isascii() and line.isprintable() else _visible(line)


def _tagged_args(args: list | tuple, exact: bool) -> list:
    tagged = []
    for number, value in enumerate(args, 1):
        try:
            tagged.append(_tagged(value, exact))
        except RecursionError:
            raise ArgumentError(f"argument {number} is nested too deeply, or contains itself") from None
        except ArgumentError as error:
            raise ArgumentError(
                f"argument {number} holds {error}, which cannot be sent to a job. Pass numbers, strings, None, or lists, "
                "tuples, dicts and sets of them: for an array its .tolist(), for a model or an open file its path, for "
                "a function its name."
            ) from None
    return tagged


def _tagged(value: Any, exact: bool) -> Any:
    """Return a value of which JSON has a form. exact: look at every text and number as well."""
    kind = type(value)
    if kind in _PLAIN:
        return _tagged_plain(value, kind) if exact else value
    if kind is list:
        return value if not exact and _PLAIN.issuperset(map(type, value)) else [_tagged(one, exact) for one in value]
    if kind is tuple:
        return {"!tuple": [_tagged(one, exact) for one in value]}
    if kind is set:
        return {"!set": [_tagged(one, exact) for one in value]}
    if kind is dict:
        texts = all(type(key) is str and not (exact and _has_half(key)) for key in value)
        if texts and not (len(value) == 1 and next(iter(value)).startswith("!")):
            return {key: _tagged(one, exact) for key, one in value.items()}
        return {"!dict": [[_tagged(key, exact), _tagged(one, exact)] for key, one in value.items()]}
    if kind is bytes:
        return {"!bytes": value.hex()}
    if kind is complex:
        return {"!complex": [_tagged(value.real, exact), _tagged(value.imag, exact)]}
    if isinstance(value, str) and hasattr(value, "grid_value"):
        return _tagged(value.grid_value, exact)
    if hasattr(value, "__fspath__"):
        return _tagged(value.__fspath__(), exact)
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0 and type(value.item()) is not kind:
        return _tagged(value.item(), exact)  # a number of numpy's
    raise ArgumentError(f"{short(value)} of type {kind.__module__}.{kind.__qualname__}")


def _tagged_plain(value: Any, kind: type) -> Any:
    if kind is float and (value != value or value in (float("inf"), float("-inf"))):
        return {"!float": repr(value)}
    if kind is int and value.bit_length() >= 2000:
        return {"!int": hex(value)}
    if kind is str and _has_half(value):
        return {"!str": value.encode("utf-8", "surrogatepass").hex()}
    return value


def _has_half(text: str) -> bool:
    """Whether a text holds half a character (a surrogate), as the names of some files do."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _visible(line: str) -> str:
    """Escape characters that are invisible, or end a line somewhere; they can only stand in JSON strings."""
    import re

    hidden = "[\x7f-\xa0\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
    return re.sub(hidden, lambda match: f"\\u{ord(match[0]):04x}", line)


_UNTAG = {
    "!tuple": tuple,
    "!set": set,
    "!dict": dict,
    "!bytes": bytes.fromhex,
    "!complex": lambda parts: complex(*parts),
    "!float": float,
    "!int": lambda text: int(text, 16),
    "!str": lambda text: bytes.fromhex(text).decode("utf-8", "surrogatepass"),
}


def from_line(line: str) -> list:
    """Return the arguments in a line of tasks.jsonl; ValueError if it holds something else."""
    import json

    def untag(found: dict) -> Any:
        if len(found) == 1:
            [(key, value)] = found.items()
            if key.startswith("!"):
                return _UNTAG[key](value)  # type: ignore[operator]  # one signature for all is not worth a layer
        return found

    try:
        args = json.loads(line, object_hook=untag)
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"it holds what grid.py does not write: {error!r}") from None
    if not isinstance(args, list):
        raise ValueError("it holds no list of arguments")
    return args


def short(value: Any) -> str:
    """Return a value as a text that fits into a message."""
    try:
        text = repr(value)
    except Exception:
        text = f"an object of type {type(value).__qualname__}"
    return text if len(text) < 60 else text[:57] + "..."
