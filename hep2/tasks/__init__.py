"""The LightningModules: reconstruction and classification."""
