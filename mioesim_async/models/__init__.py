"""What users hold: attrs classes and open enums."""
