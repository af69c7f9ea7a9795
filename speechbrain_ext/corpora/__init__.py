"""Stage 1: from folders of audio to manifests and trial lists."""
