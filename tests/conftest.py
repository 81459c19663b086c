"""Settings that all tests share."""

from __future__ import annotations

import signal

from hypothesis import settings

# A shell's background job begins with Ctrl-C ignored, and so would the processes that tests stop.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The first call of a kernel or a parser may be slow; a property is about answers, not seconds.
settings.register_profile("rankreward", deadline=None, print_blob=True)
settings.load_profile("rankreward")
