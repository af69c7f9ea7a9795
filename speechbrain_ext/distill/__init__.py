"""Frozen teachers, distillation losses and the weights between their terms."""
