"""The pure core of the supervisor: values, and rules in the function ``decide(fleet, event, now)``.

A fleet is a set of listeners and the worker processes that accept from them. ``decide`` takes the
state of the fleet and an event, and returns the new state and the actions to carry out. It performs
no I/O and reads no clock; ``wagi/server/supervisor.py`` waits for events and carries out actions.

Phases::

    STARTING ──all workers are ready──▶ SERVING ──a new plan is loaded──▶ ROLLING
        │                                  │  ◀──all workers are replaced────┤
        └──────────────────────────────────┴──── stop or failure ────────────┴──▶ STOPPING

==================  ====================  =====================  =====================  ============
event               STARTING              SERVING                ROLLING                STOPPING
==================  ====================  =====================  =====================  ============
LoadSucceeded       start all workers     start the first        go on with the newer   –
                                          successor → ROLLING    plan
LoadFailed          fail; with --watch    log; keep serving;     log; keep rolling;     –
                    log, use the          maybe retry later      maybe retry later
                    fallback and wait
FallbackReady       start all workers;                                                  –
                    do not announce them
ReloadRequested     load; if a load is running, load again after it                     –
WorkerReady         retire its            retire its             retire its             –
                    predecessors; if all  predecessors           predecessors; start
                    are ready, announce                          the next successor, or
                    → SERVING                                    log → SERVING
WorkerExited        before it was ready:  restart it             restart it             all exited:
                    fail; after that:                                                   finished
                    restart it
AdminExited         start it again after ADMIN_RESTART_DELAY_S, in all phases
StartPostponed      start it after START_RETRY_S                                        forget it
StopRequested       close listeners, cancel the load, terminate workers → STOPPING;     terminate
                    the first one with --shutdown-delay: only after the delay           them again
Tick                start the processes whose delay has passed; retry a failed reload;  start the
                    stop after the delay                                                admin
                                                                                        process
==================  ====================  =====================  =====================  ============

*fail* is StopRequested with an exit status or an error. A worker that was retired or terminated is
not restarted.

A *successor* is started beside the worker that it replaces, which retires once the successor is
ready: the listener always has a worker. In ROLLING one successor starts at a time.

Restarts back off. The first one is immediate. If workers of a listener keep dying within
HEALTHY_AFTER_S of their start, the delay is 0.5 s, 1 s, 2 s, … up to RESTART_DELAY_MAX_S.

With ``--reload-on-change``, a failed reload is retried after 1 s, 2 s, 4 s, … up to
RELOAD_RETRY_MAX_S: what it lacks may appear without a change of the files that are watched, such as
an image in a registry.
"""
