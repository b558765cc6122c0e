"""CGI's two halves: the variables of a request, and the response in a guest's output."""
