"""Route maps: which module answers which path, with which limits (docs/contract.md, "Route map").

``reader.read_route_map`` reads a file. Whatever its format, the result is a ``RouteMap``: entries,
each of which knows the ``Location`` of its keys for messages about them.

============== =====================================================
modules_toml   modules.toml
spin           spin.toml of Spin; ``spin_manifest`` has its tables,
               ``spin_component`` and ``spin_hosts`` translate them
toml_document  a TOML file; ``lines`` finds the lines of its keys
pod            Kubernetes pod manifests of Krustlet's WAGI provider
bindle         the invoice of a bindle
reader         chooses the format; a single module is a map, too
entries        the values that all of these produce
============== =====================================================
"""
