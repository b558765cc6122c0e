"""What the user tells the gateway: modules.toml and the settings of a server."""
