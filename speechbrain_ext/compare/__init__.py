"""Many systems, several seeds, one table: what ablate.py is made of."""
