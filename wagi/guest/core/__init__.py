"""The compiled core: a guest's life and the simple cases of its host calls in C. It is optional.

``store.c`` runs a guest, ``calls.c`` has the host calls, ``memory.c`` allocates its memory, and
``clock.c`` makes busy guests yield; ``binding.c`` makes them the Python module ``_core``. C
completes a simple case, or leaves it as it is to the host call in Python, which is the reference.
``pip install`` builds the module where there is a C compiler. Without it everything works, at about
twice the cost of a request; the environment variable ``WAGI_CORE`` decides which one is used:

==========  ====================================================
auto        the core if it has been built (the default)
off         Python only
required    the core; without it wagi does not start
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
    """The module if it is to be used, and a description of what is used instead."""
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
"""The compiled module, or None; and a description of what runs guests, for ``wagi --version``."""
