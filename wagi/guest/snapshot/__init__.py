"""Snapshots: the state of a started module, saved as the initial state of a new module.

Language runtimes and interpreters work for milliseconds before they handle a request. Here this
work is done once. Each request still gets an instance of its own, which begins where the snapshot
was made (the idea is Wizer's).

- A *reactor* is initialized by an exported function (``reactor``).
- A *command* is run up to its *checkpoint*: the first host call whose result depends on the request
  (``command``). Its call stack is saved in its memory as well: Binaryen's Asyncify instruments the
  functions of the stack (``unwinding``), and only these. ``_start`` of the new module restores it.

::

    module ──run──> checkpoint, functions of the stack        host, command
       └──instrument──> module that can unwind                unwinding, binaryen, instructions
              └──run, unwind──> memory and globals            host, command
                     └──write──> snapshot                     state

An interpreter runs a *prelude*, which prepares everything for a script and then reads stdin: that
is its checkpoint. In a snapshot, this read returns the variables and arguments of the request
(``resumption``), so that the prelude can put them where scripts expect them.
"""
