import signal

from hypothesis import settings

settings.register_profile("machine", deadline=None)  # a busy machine is no failure
settings.load_profile("machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # In the background of a script Ctrl-C is ignored, and what the tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
