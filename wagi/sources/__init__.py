"""From module references to modules: files, registries, bindles, downloads (contract §4)."""
