"""The command `rankreward` without a process of its own, which takes seconds to begin."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from rankreward import cli


def call(
    *arguments: Any, cwd: str | Path = ".", columns: int = 80
) -> subprocess.CompletedProcess[str]:
    """What the program's entry point does with these arguments, as if its output went to pipes."""
    words = [str(each) for each in arguments]
    out, err = io.StringIO(), io.StringIO()
    ending = signal.getsignal(signal.SIGTERM)
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["rankreward", *words]),
        mock.patch.dict(os.environ, {"COLUMNS": str(columns)}),
    ):
        try:
            cli.main()
            code: Any = 0
        except SystemExit as end:
            code = end.code or 0
        finally:
            signal.signal(signal.SIGTERM, ending)
    if isinstance(code, str):  # as the interpreter does at its end
        err.write(f"{code}\n")
        code = 1
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
