"""A local Modal: the control plane, scheduler, containers and ingress behind the unmodified client."""
