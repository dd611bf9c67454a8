"""Engines: OpenAI-speaking HTTP servers that someone else wrote, and how to run them."""
