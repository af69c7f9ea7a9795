"""Trained models on disk: experiment folders, embeddings of files, exported model folders."""
