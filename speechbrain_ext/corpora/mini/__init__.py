"""A synthetic multi-speaker corpus, spoken by eSpeak NG with invented voices in invented rooms."""

from __future__ import annotations
