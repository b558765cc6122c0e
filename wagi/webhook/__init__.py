"""``wagi webhook``: Krustlet's pods on ordinary nodes.

An admission webhook of Kubernetes that rewrites a pod with the annotation
``alpha.wagi.krustlet.dev/modules`` into a pod of the gateway. ``review`` is the pure core: a review
goes in, and a response with a patch comes out. ``creation`` and ``update`` have the rules for new
and for running pods. ``server`` answers the API server; ``authority`` keeps the certificate that it
trusts.
"""
