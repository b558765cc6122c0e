"""The journey of a start: route map → modules → compiled modules → plan → route table.

One process does everything up to the plan, once; each worker builds the route table for itself::

    plan      make_plan compiles and checks everything that a route map names
    patterns  checks the routes of entries against each other
    preopens  the directories that the guests of an entry can access
    findings  collects all problems, so that one run shows them all
    table     build_table makes the table of routes that a worker serves
"""
