"""Images, as far as a machine without a container engine builds them: cached virtual environments, and files."""
