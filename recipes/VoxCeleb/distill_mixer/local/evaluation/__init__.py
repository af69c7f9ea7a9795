"""Evaluation of trained models on trial lists."""
