"""What holds for all tests."""

import signal

# A job in the background may be told to ignore Ctrl-C, one under nohup a closed terminal, and
# children inherit that: the tests that send such a signal would wait in vain.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
