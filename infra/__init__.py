"""Settings, state and provisioning. Imports none of the other packages."""
