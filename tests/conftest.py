"""What holds for all tests."""

import signal

# A job in the background may be told to ignore Ctrl-C and its like, one under nohup a closed
# terminal, and children inherit that: the tests that send such a signal would wait in vain.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)
