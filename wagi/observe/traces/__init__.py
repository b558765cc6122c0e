"""Traces: a span for each request, exported with the OpenTelemetry SDK (the extra ``otel``).

=========== ====================================================================
setup       turns traces on at the start of a service, or explains why not
settings    reads the ``OTEL_*`` variables that decide that
exporter    sends spans from a worker, and reports an unreachable endpoint once
tracer      the spans of a request
propagation the header fields that connect spans with those of others
attributes  what spans contain, by the semantic conventions
=========== ====================================================================

Only ``exporter``, ``tracer`` and ``propagation`` import OpenTelemetry. Without the extra, nothing
imports them.
"""
