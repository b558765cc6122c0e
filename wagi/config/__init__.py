"""The options of a server, and what all configuration shares: values, texts, validation errors."""
