"""The compiled core: an optional implementation in C of stores and of common host calls.

``store.c`` runs a guest, ``calls.c`` implements the host calls, ``memory.c`` allocates memory,
``clock.c`` makes busy guests yield, and ``environment.c`` builds the environment of a guest from a
request; ``binding.c`` exposes them as the Python module ``_core``. Host calls in C and
``environment.c`` either complete a simple case or fall back, without side effects, to the code in
Python, which is the reference implementation. ``pip install`` builds the module if a C compiler is
available. Without it everything works, at about twice the CPU time per request. The environment
variable ``WAGI_CORE`` selects the implementation:

==========  ====================================================
auto        the core if it has been built, otherwise Python (the default)
off         Python only
required    the core; wagi does not start without it
==========  ====================================================
"""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType

from wagi.errors import ConfigurationError, Problem

VARIABLE = "WAGI_CORE"
_CHOICES = ("auto", "off", "required")


def _find() -> tuple[ModuleType | None, str]:
    """Return the compiled module, if it is to be used, and a description for people."""
    choice = os.environ.get(VARIABLE, "auto") or "auto"
    if choice not in _CHOICES:
        expected = ", ".join(_CHOICES)
        raise ConfigurationError(Problem(f"{VARIABLE}={choice}: expected one of {expected}"))
    if choice == "off":
        return None, f"Python ({VARIABLE}=off)"
    try:
        return import_module(f"{__name__}._core"), "compiled"
    except ImportError as error:
        if choice == "required":
            raise ConfigurationError(
                Problem(
                    f"{VARIABLE}=required: the compiled core cannot be used: {error}; install a C"
                    " compiler, and install wagi again"
                )
            ) from None
        missing = "not built" if isinstance(error, ModuleNotFoundError) else str(error)
        return None, f"Python (compiled core: {missing})"


module, DESCRIPTION = _find()
"""The compiled module or None, and a description of the implementation for ``wagi --version``."""
