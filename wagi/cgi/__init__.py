"""CGI: the environment built from a request, and the response parsed from a guest's output."""
