"""Layers that whole networks are made of: mixing, pooling, recurrence, masking."""
