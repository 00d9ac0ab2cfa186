"""What needs napari and Qt; nothing below imports it."""
