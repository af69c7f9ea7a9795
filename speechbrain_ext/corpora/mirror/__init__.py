"""Stage 0: from speech as it lies on a disk to a folder of which every file can be trained on."""
