"""The signals that the suite's shell may ignore: under `nohup`, or in a script behind an `&`."""

import signal

DEFAULTS = {
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
    signal.SIGQUIT: signal.SIG_DFL,
    signal.SIGTERM: signal.SIG_DFL,
}


def stop_ignoring_signals():
    """Give ignored signals their defaults back, for all programs that tests start inherit what is ignored.

    SIGPIPE is not among them: Python ignores it for itself and gives its default back to each program it starts.
    """
    for number, default in DEFAULTS.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default)
