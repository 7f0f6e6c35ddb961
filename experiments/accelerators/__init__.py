"""Programs of accelerators: compiled for those that are not here, and measured on one that is."""
