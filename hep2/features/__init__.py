"""What turns a cell image into a feature vector."""
