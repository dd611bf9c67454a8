"""What infra/docker, infra/systemd and infra/monitoring hold, as far as it can be tried without containers."""
