"""From image files to batches: manifest, store, protocols, augmentation, data module."""
