"""Looks at what a service needs, and says what is wrong and what to do about it: `python -m infra.doctor`."""
