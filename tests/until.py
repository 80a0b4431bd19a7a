"""Wait for something that happens in its own time."""

import time


def until(condition, what, timeout=60):
    """Wait until `condition()` is true and return its value; after `timeout` seconds the test fails.

    `what` says what was waited for: a text, or a function that returns one and is called when the test fails.
    """
    limit = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > limit:
            raise AssertionError(f"not after {timeout} s: {what() if callable(what) else what}")
        time.sleep(0.05)
    return value
