"""Refuse answers that would make a broken project: one line each, which says what is valid.

cookiecutter puts the answers into this file and runs it in the new, still empty folder. They come as JSON in a raw
text: JSON and raw texts agree on quotes and backslashes, so whatever an answer holds, it stays data.
"""

import json
import keyword
import re
import sys
import unicodedata

ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")

# Python would import a script with one of these names in place of the module that it needs, or the other way round.
OURS = """
    conftest env environment experiment grid gridlib logs results setup test tests
"""
INSTALLED = """
    _pytest black blackd blib2to3 click cloudpickle contourpy cycler dateutil fonttools iniconfig joblib kiwisolver
    matplotlib mpl_toolkits mypy_extensions narwhals numpy packaging pandas pathspec pil pip platformdirs pluggy py
    pygments pylab pyparsing pytest pytokens scipy setuptools six sklearn threadpoolctl tqdm tzdata
"""
LIKELY = """
    catboost cv2 datasets jax keras lightgbm polars seaborn statsmodels tensorflow torch torchvision transformers xgboost
"""
# Nobody has to install these, but Python or one of the packages above imports them where it finds them.
IMPORTED_IF_FOUND = """
    sitecustomize usercustomize
    attr attrs brotli cairo certifi cffi chardet charset_normalizer colorama cupy cython dask defusedxml distributed
    docutils exceptiongroup fs fsspec hypothesis importlib_resources ipykernel ipython ipywidgets jinja2 lxml lz4
    markupsafe mpmath munkres numba numexpr numpydoc openpyxl pkg_resources psutil pyarrow requests rich sparse sphinx
    sqlalchemy sympy tables tomli tornado traitlets twisted typing_extensions wheel yaml
"""
TAKEN = {*sys.stdlib_module_names, *f"{OURS} {INSTALLED} {LIKELY} {IMPORTED_IF_FOUND}".split()}


def one_line(text):
    """Whether a text can stand in one line of any file."""
    return not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in text)


def free_name(name):
    """Whether this name and the worker's can be two new modules of the project."""
    shadows = any(module.lower() in TAKEN for module in (name, f"{name}_local"))
    return not (shadows or keyword.iskeyword(name) or name.startswith("test_") or name.endswith("_test"))


def check(name, valid, valid_is):
    """Print a line if an answer is not valid; say whether it is."""
    answer = str(ANSWERS[name])
    if not valid(answer):
        print(f"{name} {ascii(answer)} is not valid: {valid_is}", file=sys.stderr)
    return valid(answer)


def matches(pattern):
    """A check that the whole answer is as the pattern says."""
    return lambda answer: re.fullmatch(pattern, answer) is not None


def some_memory(answer):
    """Whether this is a size that grid.py takes."""
    size = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)[KMGT](?:i?B)?", answer, re.IGNORECASE | re.ASCII)
    return size is not None and float(size[1]) >= 0.001


RESOURCE = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"  # pre_prompt.py has the same
QUEUE = r"(?!-)[A-Za-z0-9_.@*,-]*"
CHECKS = [
    ("project_name", lambda text: text.strip() and one_line(text), "one line of text, not empty"),
    (
        "project_slug",
        matches(r"[A-Za-z0-9]+([._-]+[A-Za-z0-9]+)*"),
        "letters a to z, digits, and between them - _ and . as in my-experiment",
    ),
    ("description", one_line, "one line of text"),
    ("author", lambda text: text.strip() and one_line(text), "one line of text, not empty"),
    (
        "script_name",
        matches(r"[A-Za-z][A-Za-z0-9_]{0,39}"),
        "a Python name without .py: a letter, then up to 39 letters, digits and _, as in my_script",
    ),
    (
        "script_name",
        free_name,
        "a name that is not Python's (a keyword, a module), nor a module that the project uses, nor a test's",
    ),
    ("memory", some_memory, "a positive number with K, M, G or T, as in 2G, 512M or 1.5G"),
    ("cuda", matches(r"[0-9]{1,4}"), "the number of GPUs: 0, 1, 2 ..."),
    ("memory_resource", matches(RESOURCE), "one word, as qconf -sc lists it, as in h_vmem"),
    ("cuda_resource", matches(RESOURCE), "one word, as qconf -sc lists it, as in cuda"),
    ("parallel_environment", matches(rf"|{RESOURCE}"), "one word, as qconf -spl lists it, as in smp; or empty"),
    ("queue", matches(QUEUE), "names with commas between them, as qconf -sql lists them, as in all.q; or empty"),
    (
        "slurm_cuda",
        matches(rf"{RESOURCE}(:[A-Za-z0-9_.+-]+)?"),
        "as sinfo -o %G lists it: gpu, or gpu:TYPE as in gpu:a100",
    ),
    ("partition", matches(QUEUE), "names with commas between them, as sinfo lists them, as in long; or empty"),
]

if not all([check(*one) for one in CHECKS]):
    sys.exit(1)
