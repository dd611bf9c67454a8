"""Where claims about speed live: run by hand (`make bench`, `make bench-gateway`), never as tests."""
