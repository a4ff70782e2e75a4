"""The LightningModules: reconstruction, classification and clustering."""
