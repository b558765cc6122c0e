"""The snapshots of a route map: the key ``snapshot`` of its entries."""
