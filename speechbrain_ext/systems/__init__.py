"""Systems: YAML that builds on YAML, experiment folders, trained models."""
