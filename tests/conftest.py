"""What holds for all tests."""

import signal

# A shell that starts a job in the background lets it ignore Ctrl-C, and children inherit that: the
# tests that send one would wait in vain.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
