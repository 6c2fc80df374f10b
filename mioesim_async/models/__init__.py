"""The models that users get: attrs classes and enums that accept unknown values."""
