"""Trial lists, scores, metrics and plots of speaker verification."""
