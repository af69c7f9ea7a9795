"""Whole networks: front ends, students, teachers and the encoder that joins them."""
