"""How containers are made on this machine."""
