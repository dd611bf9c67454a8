"""Pure translations: between what clients speak, one internal request, what engines speak, and their streams."""
