"""One file per noun, thin: parse, call, render."""
