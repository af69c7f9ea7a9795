"""The command ``spk``: what the runtime does, in a terminal."""
