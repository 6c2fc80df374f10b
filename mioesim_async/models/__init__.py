"""What comes back: attrs classes, open enums, and the one converter that fills them."""
