"""HTTP and WebSocket on one side, inputs and containers on the other."""
