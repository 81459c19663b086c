"""Settings that all tests share."""

from __future__ import annotations

from hypothesis import settings

# The first call of a kernel or a parser may be slow; a property is about answers, not seconds.
settings.register_profile("rankreward", deadline=None, print_blob=True)
settings.load_profile("rankreward")
