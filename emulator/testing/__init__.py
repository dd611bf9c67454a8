"""What tests of Modal apps use: the parts behind the fixtures of `emulator.pytest_plugin`."""
