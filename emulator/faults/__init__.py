"""What goes wrong on purpose: containers that die, boots that fail, streams that break, an AWS that throttles."""
