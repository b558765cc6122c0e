"""The builds of a route map: the commands that compile its modules, and what they depend on."""
