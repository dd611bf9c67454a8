"""Where claims about speed live: run by hand (`make bench`), never as tests."""
